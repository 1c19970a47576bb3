package pull

import (
	"context"
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/diskimage"
)

// publish turns a complete work file whose bytes hash to sum into a blob, and
// links the image. Up to the rename nothing is visible under blobs/; from the
// rename on, the name stands over bytes that were hashed and synced, whatever
// step a kill or a power cut prevents.
func (s *Store) publish(ctx context.Context, j *job, w *workFile, sum string, size int64) (Result, error) {
	found, err := s.seal(ctx, j, w, sum, size)
	if err != nil {
		return Result{}, err
	}
	id, err := s.expose(ctx, w, sum)
	if err != nil {
		return Result{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.link(j.ImageName, sum, id); err != nil {
		if errors.Is(err, ErrNotPresent) {
			return Result{}, failWith(StorageError, err, "the blob was taken away while it was published")
		}
		return Result{}, err
	}
	s.step("image linked")
	return Result{
		Digest: digestPrefix + sum, SizeBytes: size, Path: s.blobs.join(sum),
		Format: found.Format, VirtualSizeBytes: found.VirtualSize, Encryption: found.Encryption,
	}, nil
}

// seal makes the last checks on the file, and the file immutable and durable.
func (s *Store) seal(ctx context.Context, j *job, w *workFile, sum string, size int64) (diskimage.Image, error) {
	st, err := statRegular(w.file)
	if err != nil {
		return diskimage.Image{}, storageError(err, "check the data file")
	}
	if st.Size != size {
		return diskimage.Image{}, fail(StorageError, "the data file has %d bytes instead of %d", st.Size, size)
	}
	found, err := inspectFile(ctx, w.file, size, j.Format)
	if err != nil {
		return diskimage.Image{}, err
	}
	if err := w.file.Chmod(blobMode); err != nil {
		return diskimage.Image{}, storageError(err, "make the data file read-only")
	}
	s.step("data sealed")
	// After a failed fsync a later one may succeed and mean nothing, so any
	// error here ends the pull and its file, even where there was only no room.
	if err := w.file.Sync(); err != nil {
		w.poisoned = true
		return diskimage.Image{}, storageError(err, "sync the data file")
	}
	s.step("data file synced")
	// What the flusher left.
	err = unix.Fadvise(int(w.file.Fd()), 0, 0, unix.FADV_DONTNEED)
	if j.Verify != VerifyMedia {
		return found, nil // it was a hint
	}
	if err != nil {
		return diskimage.Image{}, storageError(err, "drop the data file from the page cache")
	}
	again, err := hashFile(ctx, w.file, size)
	if err != nil {
		w.poisoned = reasonOf(err) != "" // whoever ended the pull says nothing about the disk
		return diskimage.Image{}, err
	}
	if again != sum {
		return diskimage.Image{}, fail(StorageError, "the medium returns bytes with digest sha256:%s where sha256:%s was written: check the disk", again, sum)
	}
	return found, nil
}

// expose gives the sealed file its name under blobs/, durably. If a blob of that
// name is there already and right, that one stays.
func (s *Store) expose(ctx context.Context, w *workFile, sum string) (identity, error) {
	for {
		err := s.blobs.moveNew(w.dir, dataFile, sum)
		if err == nil {
			w.published = true
			s.step("blob named")
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return identity{}, storageError(err, "publish the blob")
		}
		f, id, err := s.verify(ctx, sum, VerifyCache)
		if err == nil {
			return id, f.Close()
		}
		if !errors.Is(err, ErrNotPresent) { // else it is in quarantine, and the name is free
			return identity{}, err
		}
	}
	if err := errors.Join(s.blobs.sync(), w.dir.sync()); err != nil {
		return identity{}, storageError(err, "sync the directory of blobs")
	}
	s.step("blob published")
	st, err := statRegular(w.file)
	if err != nil {
		return identity{}, storageError(err, "check the published blob")
	}
	s.remember(sum, identityOf(st))
	return identityOf(st), nil
}
