package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestRemoveEarlier: two versions in one folder would be one release with both.
func TestRemoveEarlier(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(names ...string) {
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 { // the first time there is nothing to remove
		if err := removeEarlier(dir); err != nil {
			t.Fatal(err)
		}
		write("agent-v1", imageList, signature)
		if err := writeChecksums(dir); err != nil {
			t.Fatal(err)
		}
	}
	write("notes.txt") // not of a release
	if err := removeEarlier(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if !slices.Equal(names, []string{"notes.txt"}) {
		t.Errorf("left: %q", names)
	}
}
