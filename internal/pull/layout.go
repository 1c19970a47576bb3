package pull

import (
	"fmt"
	"os"
	"slices"
)

// CheckDir returns an error unless a directory is a store, or may become one because it is empty. It looks at names only, so that
// who may not read the store may ask, too.
func CheckDir(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("look into the store: %w", err)
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	if slices.Contains(names, storeFile) {
		return nil
	}
	return checkNames(path, names)
}

// checkNames refuses a directory without STORE that holds what no store holds before it has one.
func checkNames(path string, names []string) error {
	for _, name := range names {
		switch name {
		case lockFile, storeFile + tempPrefix, "lost+found":
		default:
			return fail(StorageError, "%s is neither empty nor a store (it holds %.60q): choose another directory", path, name)
		}
	}
	return nil
}
