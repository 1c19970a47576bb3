package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!"), 0o600); err != nil {
		t.Fatal(err)
	}
	image := Image{
		Name: "localhost/tool:1", Entrypoint: []string{"/bin/tool"},
		Files: []File{{Path: "bin/tool", Source: program}, {Path: "bin/alias", LinkTo: "tool"}},
	}
	var archives [2][]byte
	for i := range archives {
		path := filepath.Join(dir, "archive.tar")
		if err := Write(path, image); err != nil {
			t.Fatal(err)
		}
		var err error
		if archives[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("the same image made two different archives")
	}
	files := unpack(t, archives[0])
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"].data, &manifest); err != nil || len(manifest) != 1 || len(manifest[0].Layers) != 1 {
		t.Fatalf("manifest %s: %v", files["manifest.json"].data, err)
	}
	var config struct {
		Rootfs struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	if err := json.Unmarshal(files[manifest[0].Config].data, &config); err != nil {
		t.Fatal(err)
	}
	layer := files[manifest[0].Layers[0]].data
	if got := config.Rootfs.DiffIDs; len(got) != 1 || got[0] != "sha256:"+digest(layer) {
		t.Errorf("the configuration names layers %q, the layer is %s", got, digest(layer))
	}
	in := unpack(t, layer)
	if got := in["bin/tool"]; got.header.Mode&0o111 == 0 || string(got.data) != "#!" {
		t.Errorf("the program came out as %+v", got)
	}
	if got := in["bin/alias"].header; got == nil || got.Typeflag != tar.TypeSymlink || got.Linkname != "tool" {
		t.Errorf("the link came out as %+v", got)
	}
}

type entry struct {
	header *tar.Header
	data   []byte
}

func unpack(t *testing.T, archive []byte) map[string]entry {
	t.Helper()
	files := map[string]entry{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = entry{header, data}
	}
}
