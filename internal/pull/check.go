package pull

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// ErrReplaced is returned by Check when the store's path leads to another
// directory than the one that was opened, or when its parts were taken away. The
// store must be opened again.
var ErrReplaced = errors.New("the store's directory was wiped or replaced")

// Check looks whether the store is still there and can be written. It reads no
// blob. Errors are ErrReplaced, or of reason StorageError.
func (s *Store) Check() error {
	if err := s.checkPlace(); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(s.root.fd(), &st); err != nil {
		return storageError(err, "look at the store's filesystem")
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return fail(StorageError, "the filesystem of the store %s is read-only: check the disk and mount it for writing; blobs stay readable", s.root.path)
	}
	if err := unix.Faccessat(s.root.fd(), ".", unix.W_OK, unix.AT_EACCESS); err != nil {
		return storageError(err, "the store %s cannot be written", s.root.path)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noteUnused()
}

// checkPlace makes sure that every name still leads to what was opened under it.
func (s *Store) checkPlace() error {
	var here unix.Stat_t
	if err := unix.Stat(s.root.path, &here); err != nil && unreadable(err) {
		return storageError(err, "look at the store")
	}
	if !sameFile(here, s.root.file.Fd()) {
		return fmt.Errorf("%w: %s is another directory now", ErrReplaced, s.root.path)
	}
	if lock, err := s.root.stat(LockFile); err != nil || !sameFile(lock, s.lock.Fd()) {
		return fmt.Errorf("%w: %s is not the file that was locked", ErrReplaced, s.root.join(LockFile))
	}
	for name, d := range map[string]*dir{
		"blobs/sha256": s.blobs, "images": s.images, "partial": s.partial, "quarantine": s.quarantine, "unused": s.unused,
	} {
		if st, err := s.root.stat(name); err != nil || !sameFile(st, d.file.Fd()) {
			return fmt.Errorf("%w: %s is another directory now", ErrReplaced, d.path)
		}
	}
	f, _, err := s.root.openFile(storeFile, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrReplaced, err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return storageError(err, "read %s", f.Name())
	}
	if string(text) != storeLayout+"\n"+s.id {
		return fmt.Errorf("%w: %s names another store", ErrReplaced, f.Name())
	}
	return nil
}

func sameFile(st unix.Stat_t, fd uintptr) bool {
	var open unix.Stat_t
	return unix.Fstat(int(fd), &open) == nil && open.Nlink > 0 && st.Dev == open.Dev && st.Ino == open.Ino
}

// Holds reports whether images/<image> names the blob of digest and that blob is
// a file of size bytes that nobody found wrong. It reads no content: it is the
// look that is cheap enough to be taken every few seconds.
func (s *Store) Holds(image, digest string, size int64) bool {
	name, err := parseDigest(digest)
	if err != nil || checkImageName(image) != nil {
		return false
	}
	s.mu.Lock()
	wrong := s.verified[name].wrong
	s.mu.Unlock()
	if named, ok := s.readLink(image); wrong || !ok || named != name {
		return false
	}
	st, err := s.blobs.stat(name)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == size && checkBlob(name, st) == nil
}
