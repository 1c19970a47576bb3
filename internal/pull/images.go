package pull

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// linkPrefix is where an image's link leads, relative to images/.
const linkPrefix = "../blobs/sha256/"

// Images returns what every link under images/ names: image name to digest.
// Entries that are no such link are left out.
func (s *Store) Images() (map[string]string, error) {
	names, err := s.images.names()
	if err != nil {
		return nil, storageError(err, "list the images")
	}
	images := make(map[string]string, len(names))
	for _, name := range names {
		if blob, ok := s.readLink(name); ok && checkImageName(name) == nil {
			images[name] = digestPrefix + blob
		}
	}
	return images, nil
}

// readLink returns the blob that the link images/<name> names.
func (s *Store) readLink(name string) (string, bool) {
	buf := make([]byte, len(linkPrefix)+sha256Digits+1)
	n, err := unix.Readlinkat(s.images.fd(), name, buf)
	if err != nil {
		return "", false
	}
	blob, ok := strings.CutPrefix(string(buf[:n]), linkPrefix)
	return blob, ok && isBlobName(blob)
}

// Unlink removes images/<name>, durably. A missing link is no error.
func (s *Store) Unlink(name string) error {
	if err := checkImageName(name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letGo(name)
	err := unix.Unlinkat(s.images.fd(), name, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return storageError(&fs.PathError{Op: "unlink", Path: s.images.join(name), Err: err}, "remove an image's link")
	}
	if err := s.images.sync(); err != nil {
		return storageError(err, "remove an image's link")
	}
	return nil
}

// link makes images/<image> name a blob, replacing an older link in one step. It
// returns ErrNotPresent when the blob is no longer the verified one. An empty
// image only checks that. The caller holds s.mu.
func (s *Store) link(image, blob string, id identity) error {
	st, err := s.blobs.stat(blob)
	if errors.Is(err, fs.ErrNotExist) || err == nil && identityOf(st) != id {
		return ErrNotPresent
	}
	if err != nil {
		return storageError(err, "link an image")
	}
	if image == "" {
		return nil
	}
	if named, ok := s.readLink(image); ok && named == blob {
		return s.syncImages() // it may be there and not yet durable
	}
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails, by its documentation
	temp := tempPrefix + hex.EncodeToString(random[:])
	if err := unix.Symlinkat(linkPrefix+blob, s.images.fd(), temp); err != nil {
		return storageError(&os.LinkError{Op: "symlink", Old: linkPrefix + blob, New: s.images.join(temp), Err: err}, "link an image")
	}
	s.letGo(image)
	if err := unix.Renameat(s.images.fd(), temp, s.images.fd(), image); err != nil {
		_ = s.images.remove(temp)
		return storageError(&os.LinkError{Op: "rename", Old: temp, New: s.images.join(image), Err: err}, "link an image")
	}
	err = s.syncImages()
	if err == nil {
		s.forgetUnused(blob)
	}
	return err
}

func (s *Store) syncImages() error {
	if err := s.images.sync(); err != nil {
		return storageError(err, "sync the images' links")
	}
	return nil
}
