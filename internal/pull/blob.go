package pull

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// blobMode: a published blob is never written again, not even by its owner.
const blobMode = 0o444

// readSize is the buffer of everything that reads a file: large enough for few
// system calls, small enough to stay in a core's cache.
const readSize = 256 << 10

// identity tells whether a file is still the one that was hashed: any write,
// link or change of mode moves ctime. A filesystem in memory is an exception:
// see hidesWrites.
type identity struct {
	dev, ino          uint64
	ctimeSec, ctimeNs int64
	size              int64
}

// hidesWrites reports whether a filesystem moves no times when a file is changed
// through a mapping (mmap): those in memory never write pages back, so that the
// kernel does not notice a second write to one. What was hashed there proves
// nothing later. Of a filesystem that lies over such a one, as overlayfs can,
// nobody can tell.
func hidesWrites(fs unix.Statfs_t) bool {
	return fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC || fs.Type == unix.HUGETLBFS_MAGIC
}

func identityOf(st unix.Stat_t) identity {
	return identity{uint64(st.Dev), st.Ino, int64(st.Ctim.Sec), int64(st.Ctim.Nsec), st.Size}
}

// verification is what this process knows of a blob's bytes. It is kept in
// memory only: what a file's times say after a restart or a power cut is no proof.
type verification struct {
	id identity
	at time.Time
	// wrong: the bytes are not those that the name says, and the blob could not
	// be moved away.
	wrong bool
}

// Contains reports whether a regular file of size bytes lies where the blob of
// digest would be; size 0 means any. It reads no content and so proves nothing
// about it.
func (s *Store) Contains(digest string, size int64) bool {
	name, err := parseDigest(digest)
	if err != nil {
		return false
	}
	st, err := s.blobs.stat(name)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && (size == 0 || st.Size == size)
}

// Adopt links images/<ImageName> to the blob of Request.Digest if the store
// holds it, without any network. A blob that this process has not verified is
// hashed first. Format and MaxSize hold as in Pull. When there is no such blob,
// or its bytes are wrong, the error is ErrNotPresent.
func (s *Store) Adopt(ctx context.Context, r Request) (Result, error) {
	j, err := newJob(r)
	if err != nil {
		return Result{}, err
	}
	if j.digest == "" {
		return Result{}, fmt.Errorf("no digest was given: %w", ErrNotPresent)
	}
	unlock, err := s.keys.lock(ctx, j.digest)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	return s.present(ctx, j)
}

// present serves a job from a blob that is already there, or returns
// ErrNotPresent. The caller holds the digest's key.
func (s *Store) present(ctx context.Context, j *job) (Result, error) {
	f, id, err := s.verify(ctx, j.digest, j.Verify)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = f.Close() }()
	if id.size > j.MaxSize {
		return Result{}, tooLarge(id.size, j.MaxSize)
	}
	found, err := inspectFile(ctx, f, id.size, j.Format)
	if unreadable(err) {
		return Result{}, s.setAside(j.digest, err.Error())
	}
	if err != nil {
		return Result{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.link(j.ImageName, j.digest, id); err != nil {
		return Result{}, err
	}
	return Result{
		Digest: digestPrefix + j.digest, SizeBytes: id.size, Path: s.blobs.join(j.digest),
		Format: found.Format, VirtualSizeBytes: found.VirtualSize, Encryption: found.Encryption, AlreadyPresent: true,
	}, nil
}

// verify opens a blob whose bytes are known to be those its name says; what this
// process has hashed is hashed again only on the medium. What lies there and is
// anything else is moved to quarantine, and the error is ErrNotPresent.
func (s *Store) verify(ctx context.Context, name string, how Verify) (*os.File, identity, error) {
	f, st, err := s.openBlob(name, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, identity{}, ErrNotPresent
	case errors.Is(err, errIrregular):
		return nil, identity{}, s.setAside(name, err.Error())
	case err != nil:
		return nil, identity{}, storageError(err, "open a blob")
	}
	id := identityOf(st)
	s.mu.Lock()
	known := s.verified[name]
	s.mu.Unlock()
	switch {
	case known.wrong: // reading it again may show only what the page cache holds
		err = s.setAside(name, "it was found wrong before")
	case known.id != id, how == VerifyMedia, s.unseenWrites:
		id, err = s.rehash(ctx, f, st, name, how)
	}
	if err != nil {
		_ = f.Close()
		return nil, identity{}, err
	}
	return f, id, nil
}

// openBlob opens a blob for reading. A blob that has another name besides is a
// user's hard link if the file is as this store publishes it, so that whoever may
// not write to the store may not write to the file either. Any other file with two
// names was planted, and is nothing to change the mode of.
func (s *Store) openBlob(name string, flags int) (*os.File, unix.Stat_t, error) {
	f, st, err := s.blobs.openFile(name, flags)
	if err != nil {
		return nil, st, err
	}
	if err := checkBlob(f.Name(), st); err != nil {
		_ = f.Close()
		return nil, st, err
	}
	return f, st, nil
}

func checkBlob(path string, st unix.Stat_t) error {
	ours := st.Mode&0o7777 == blobMode && (st.Uid == 0 || int(st.Uid) == os.Geteuid())
	if st.Nlink > 1 && !ours {
		return fmt.Errorf("%w: %s has %d hard links, and mode or owner are not those of a blob", errIrregular, path, st.Nlink)
	}
	return nil
}

// rehash hashes a blob of unknown history, and makes it as durable as one that
// was published: the process that left it may have died before it synced.
func (s *Store) rehash(ctx context.Context, f *os.File, st unix.Stat_t, name string, how Verify) (identity, error) {
	before, err := s.protect(f, st)
	if err != nil {
		return identity{}, err
	}
	if err := f.Sync(); err != nil {
		// The next one, of another descriptor too, may succeed and mean nothing.
		_ = s.setAside(name, "it cannot be synced: "+err.Error())
		return identity{}, storageError(err, "sync a blob")
	}
	if how == VerifyMedia {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			return identity{}, storageError(err, "drop a blob from the page cache")
		}
	}
	sum, err := hashFile(ctx, f, before.Size)
	if unreadable(err) {
		return identity{}, s.setAside(name, err.Error())
	}
	if err != nil {
		return identity{}, err
	}
	if sum != name {
		return identity{}, s.setAside(name, "its bytes have the digest sha256:"+sum)
	}
	if err := s.blobs.sync(); err != nil {
		return identity{}, storageError(err, "sync the directory of blobs")
	}
	var after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return identity{}, storageError(err, "look at a blob")
	}
	if identityOf(after) != identityOf(before) { // a hard link that a user makes is enough for that
		return s.rehash(ctx, f, after, name, how)
	}
	s.remember(name, identityOf(after))
	return identityOf(after), nil
}

// protect makes a blob read-only, if its name here is the only one it has.
func (s *Store) protect(f *os.File, st unix.Stat_t) (unix.Stat_t, error) {
	if st.Mode&0o7777 == blobMode || st.Nlink != 1 {
		return st, nil
	}
	if err := f.Chmod(blobMode); err != nil {
		return st, storageError(err, "make a blob read-only")
	}
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, storageError(err, "look at a blob")
	}
	return st, nil
}

// remember notes that this process hashed a blob and found it right.
func (s *Store) remember(name string, id identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verified[name] = verification{id: id, at: s.now()}
}

// unreadable tells an error of reading bytes that lie on a medium, which another
// copy of them would not have, from one of the machine's.
func unreadable(err error) bool {
	for _, errno := range []unix.Errno{unix.EIO, unix.ENODATA, unix.EBADMSG, unix.EUCLEAN, unix.EILSEQ, unix.EREMOTEIO} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return errors.Is(err, io.EOF) // the file became shorter
}

// setAside moves a wrong blob to quarantine. It returns ErrNotPresent, or why
// the blob could not be moved; it counts for nothing in any case.
func (s *Store) setAside(name, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.corrupt.Add(1)
	s.verified[name] = verification{wrong: true}
	s.log.Warn("a blob is wrong and goes to quarantine", "blob", name, "why", why)
	for i := 0; ; i++ {
		err := unix.Renameat2(s.blobs.fd(), name, s.quarantine.fd(), fmt.Sprintf("%s.%d", name, i), unix.RENAME_NOREPLACE)
		switch err {
		case unix.EEXIST:
			continue
		case unix.EINVAL, unix.ENOSYS, unix.EPERM: // no such rename here; an older quarantined copy may go
			err = unix.Renameat(s.blobs.fd(), name, s.quarantine.fd(), name)
		}
		if err != nil && err != unix.ENOENT {
			return storageError(err, "move a wrong blob to quarantine")
		}
		break
	}
	delete(s.verified, name)
	s.step("blob set aside")
	if err := errors.Join(s.quarantine.sync(), s.blobs.sync()); err != nil {
		return storageError(err, "sync the quarantine")
	}
	return ErrNotPresent
}

// RemoveBlob deletes a blob. It returns ErrReferenced while any image names it, or
// Keep does, and nil when there is none.
func (s *Store) RemoveBlob(digest string) error {
	name, err := parseDigest(digest)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	images, err := s.Images()
	if err != nil {
		return err
	}
	for image, named := range images {
		if named == digest {
			return fmt.Errorf("remove %s: %w: %s", digest, ErrReferenced, image)
		}
	}
	if s.isKept(name) {
		return fmt.Errorf("remove %s: %w: an order wants it", digest, ErrReferenced)
	}
	return s.deleteBlob(name)
}

// deleteBlob deletes a blob that no image names, durably. The caller holds s.mu.
func (s *Store) deleteBlob(name string) error {
	delete(s.verified, name)
	if err := errors.Join(s.blobs.remove(name), s.blobs.sync()); err != nil {
		return storageError(err, "remove a blob")
	}
	s.step("blob removed")
	s.forgetUnused(name)
	return nil
}

// hashFile returns the SHA-256 of the file's first size bytes in hex, and fails
// when it has fewer.
func hashFile(ctx context.Context, f *os.File, size int64) (string, error) {
	h := sha256.New()
	buf := make([]byte, readSize)
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		h.Write(buf[:n])
		at += int64(n)
		if err != nil && (err != io.EOF || at < size) {
			return "", storageError(err, "read %s back", f.Name())
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func tooLarge(size, limit int64) *Error {
	return fail(TooLarge, "the object has %d bytes and at most %d are allowed: raise the limit if that is right", size, limit)
}
