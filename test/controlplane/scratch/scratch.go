// Package scratch makes temporary folders that do not outlive their process for long: what a killed process left is removed by the
// next one that asks for a folder of the same kind. Some hold gigabytes.
package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// settled is how old a folder must be before it can be an orphan: its maker needs a moment to lock it.
const settled = time.Minute

// Dir is a temporary folder, locked for as long as the process lives.
type Dir struct {
	Path string
	lock *os.File
}

// New makes a folder below the system's temporary one, and removes the orphans of the same kind.
func New(kind string) (*Dir, error) {
	prefix := "cloudimage-" + kind + "-"
	if err := sweep(filepath.Join(os.TempDir(), prefix+"*")); err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp("", prefix)
	if err != nil {
		return nil, fmt.Errorf("make a temporary folder: %w", err)
	}
	lock, err := lockFolder(path)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	return &Dir{Path: path, lock: lock}, nil
}

// Remove deletes the folder with all it holds; a second time it does nothing.
func (d *Dir) Remove() error {
	if d.lock == nil {
		return nil
	}
	defer func() { d.lock = nil }()
	if err := errors.Join(os.RemoveAll(d.Path), d.lock.Close()); err != nil {
		return fmt.Errorf("remove a temporary folder: %w", err)
	}
	return nil
}

// sweep removes the folders whose makers are gone. One that cannot be locked is in use, or somebody else's.
func sweep(pattern string) error {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return fmt.Errorf("look for old temporary folders: %w", err)
	}
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < settled {
			continue
		}
		lock, err := lockFolder(path)
		if err != nil {
			continue
		}
		if err := errors.Join(os.RemoveAll(path), lock.Close()); err != nil {
			return fmt.Errorf("remove an old temporary folder: %w", err)
		}
	}
	return nil
}

// lockFolder locks the folder itself. The kernel lets go of the lock when the process ends, however it ends.
func lockFolder(path string) (*os.File, error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("lock a temporary folder: %w", err)
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), folder.Close())
	}
	return folder, nil
}
