package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
)

// TestArchiveIsOfItsContents: neither the clock nor the order of a folder shows in it. TestReproducible, which takes minutes, shows
// the same of all artefacts.
func TestArchiveIsOfItsContents(t *testing.T) {
	t.Parallel()
	files := []file{{path: "b/c/two", mode: 0o644, data: []byte("2")}, {path: "a", mode: 0o755, data: []byte("1")}}
	first, err := tarOf(files)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(files)
	if second, err := tarOf(files); err != nil || !bytes.Equal(first, second) {
		t.Errorf("the order of the files shows, %v", err)
	}
	var names []string
	for r := tar.NewReader(bytes.NewReader(first)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
		if header.ModTime.Unix() != 0 || header.Uid != 0 || header.Gid != 0 || header.Uname != "" {
			t.Errorf("%s is of %s and %d:%d %s", header.Name, header.ModTime, header.Uid, header.Gid, header.Uname)
		}
	}
	if want := []string{"a", "b/", "b/c/", "b/c/two"}; !slices.Equal(names, want) {
		t.Errorf("entries %q, want %q", names, want)
	}
}
