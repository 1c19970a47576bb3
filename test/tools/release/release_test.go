package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
)

// here is the only platform that these tests build for; make release builds for all.
var here = platform{"linux", "amd64"} //nolint:gochecknoglobals // a constant

func repository(t *testing.T) string {
	t.Helper()
	path, err := controlplane.Repository("")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func newBuilder(t *testing.T, repository string) builder {
	t.Helper()
	return builder{
		repository: repository, out: t.TempDir(), version: "v1.2.3",
		source: source{revision: strings.Repeat("ab", 20), created: time.Unix(1700000000, 0).UTC()},
	}
}

// TestReproducible builds everything twice, the second time from a copy of the sources in another folder: every artefact is the same.
func TestReproducible(t *testing.T) {
	t.Parallel()
	first := artefacts(t, repository(t))
	second := artefacts(t, copySources(t))
	if first != second {
		t.Errorf("the checksums differ:\n%s", cmp.Diff(strings.Split(first, "\n"), strings.Split(second, "\n")))
	}
	if lines := strings.Count(first, "\n"); lines < 10 {
		t.Errorf("only %d artefacts:\n%s", lines, first)
	}
}

// artefacts returns the checksums of a release.
func artefacts(t *testing.T, repository string) string {
	t.Helper()
	b := newBuilder(t, repository)
	for _, image := range images {
		if err := b.image(t.Context(), image, []platform{here}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.rest(t.Context(), []platform{here}); err != nil {
		t.Fatal(err)
	}
	if err := writeChecksums(b.out); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(b.out, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	return string(sums)
}

func copySources(t *testing.T) string {
	t.Helper()
	from, to := repository(t), filepath.Join(t.TempDir(), "another", "folder")
	for _, folder := range []string{"api", "charts", "cmd", "config", "internal", "test/tools/release/rootfs"} {
		if err := os.CopyFS(filepath.Join(to, folder), os.DirFS(filepath.Join(from, folder))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// TestImages holds the images against what they promise, and against the Dockerfile.
func TestImages(t *testing.T) {
	t.Parallel()
	stages := readDockerfile(t, filepath.Join(repository(t), "Dockerfile"))
	for _, definition := range images {
		t.Run(definition.image, func(t *testing.T) {
			t.Parallel()
			b := newBuilder(t, repository(t))
			if err := b.image(t.Context(), definition, []platform{here}); err != nil {
				t.Fatal(err)
			}
			image, err := tarball.ImageFromPath(filepath.Join(b.out, definition.image+"-v1.2.3-linux-amd64.docker.tar"), nil)
			if err != nil {
				t.Fatal(err)
			}
			config, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			stage := stages[definition.program]
			checkConfig(t, config, stage)
			files := contents(t, image)
			var got, want []string
			for name := range files {
				got = append(got, name)
			}
			want = stage.files(t, repository(t))
			if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
				t.Errorf("the files of the Dockerfile (-) and of the image (+) differ:\n%s", diff)
			}
			program, err := elf.NewFile(bytes.NewReader(files["/"+definition.program]))
			if err != nil {
				t.Fatal(err)
			}
			if libraries, err := program.ImportedLibraries(); err != nil || len(libraries) > 0 {
				t.Errorf("the program is not static: %v, %v", libraries, err)
			}
		})
	}
}

func checkConfig(t *testing.T, config *oci.ConfigFile, stage stage) {
	t.Helper()
	const prefix = "org.opencontainers.image."
	if !config.Created.Equal(time.Unix(1700000000, 0)) {
		t.Errorf("created %s, want the time of the commit", config.Created)
	}
	for label, want := range map[string]string{"version": "v1.2.3", "revision": strings.Repeat("ab", 20), "created": "2023-11-14T22:13:20Z"} {
		if got := config.Config.Labels[prefix+label]; got != want {
			t.Errorf("label %s is %q, want %q", label, got, want)
		}
		delete(config.Config.Labels, prefix+label) // a docker build is told them by its caller
	}
	want := oci.Config{User: stage.user, Entrypoint: stage.entrypoint, Labels: stage.labels}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("the configuration of the Dockerfile (-) and of the image (+) differ:\n%s", diff)
	}
}

// contents are the regular files of an image by path.
func contents(t *testing.T, image oci.Image) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	flat := mutate.Extract(image)
	defer flat.Close()
	for r := tar.NewReader(flat); ; {
		header, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Gid != 0 || header.Mode&0o022 != 0 {
			t.Errorf("%s belongs to %d:%d with mode %o: the program could change it", header.Name, header.Uid, header.Gid, header.Mode)
		}
		if header.Typeflag == tar.TypeReg {
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			files["/"+strings.TrimPrefix(header.Name, "/")] = data
		}
	}
}

// TestBill: the bill of materials names what is known to be linked.
func TestBill(t *testing.T) {
	t.Parallel()
	b := newBuilder(t, repository(t))
	path, err := b.binary(t.Context(), "node-agent", here)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.bill(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path + ".spdx.json")
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		SPDXVersion string
		Packages    []struct{ Name, VersionInfo string }
	}
	if err := json.Unmarshal(data, &bill); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, p := range bill.Packages {
		versions[p.Name] = p.VersionInfo
	}
	for _, name := range []string{"stdlib", "k8s.io/client-go", "golang.org/x/crypto/x509roots/fallback"} {
		if versions[name] == "" {
			t.Errorf("%s is not in it", name)
		}
	}
	if got := versions["github.com/cloudimage-dev/cloudimage-operator"]; got != "v1.2.3" || bill.SPDXVersion != "SPDX-2.3" {
		t.Errorf("the program's version is %q in a document of version %q", got, bill.SPDXVersion)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{"v0.1.0": true, "v1.2.3-rc.1": true, "0.1.0": false, "v1": false, "v1.2.3+build": false, "": false, "v01.2.3": false} {
		if _, err := parse([]string{"-version", version}); (err == nil) != want {
			t.Errorf("version %q: %v", version, err)
		}
	}
}
