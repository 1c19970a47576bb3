package pull

import "slices"

// CheckNames returns an error unless a directory with these entries is a store, or may become one because it is empty. It looks at
// names only, so that who may not read the store may ask, too.
func CheckNames(path string, names []string) error {
	if slices.Contains(names, storeFile) {
		return nil
	}
	return checkNames(path, names)
}

// checkNames refuses a directory without STORE that holds what no store holds before it has one.
func checkNames(path string, names []string) error {
	for _, name := range names {
		switch name {
		case LockFile, lockTemp, storeFile + tempPrefix, "lost+found":
		default:
			return fail(StorageError, "%s is neither empty nor a store (it holds %.60q): choose another directory", path, name)
		}
	}
	return nil
}
