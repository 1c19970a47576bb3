package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// checksums is the file that lists all others.
const checksums = "SHA256SUMS"

// removeEarlier removes what an earlier run made in the folder, so that no two versions are mixed, and leaves all else.
func removeEarlier(dir string) error {
	list, err := os.ReadFile(filepath.Join(dir, checksums))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read what an earlier run made: %w", err)
	}
	names := []string{imageList, checksums, signature}
	for line := range strings.Lines(string(list)) {
		if _, name, found := strings.Cut(strings.TrimSpace(line), "  "); found && name == filepath.Base(name) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what an earlier run made: %w", err)
		}
	}
	return nil
}

// writeChecksums writes SHA256SUMS in the form that `sha256sum --check` reads, over every other file of the folder.
func writeChecksums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the artefacts: %w", err)
	}
	var sums bytes.Buffer
	for _, entry := range entries {
		if entry.IsDir() || entry.Name() == checksums || entry.Name() == signature {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return fmt.Errorf("read an artefact: %w", err)
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(data), entry.Name())
	}
	return os.WriteFile(filepath.Join(dir, checksums), sums.Bytes(), 0o644)
}
