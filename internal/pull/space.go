package pull

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// growStep is how far ahead the space of an object of unknown size is reserved.
const growStep = 64 << 20

// space reserves room on the store's filesystem before bytes are written, so
// that a full disk shows at once and not after an hour.
type space struct {
	dirFD int

	mu       sync.Mutex
	promised int64 // bytes promised to files on a filesystem that cannot reserve
}

// reservation is the room reserved for one file.
type reservation struct {
	space    *space
	file     *os.File
	size     int64 // bytes reserved
	promised int64 // of them only promised
	kept     int64 // bytes that the file had before, which stay whatever fails
}

// reserve gives file room for size bytes. Release it when the file is complete
// or gone.
func (s *space) reserve(file *os.File, size int64) (*reservation, error) {
	r := &reservation{space: s, file: file}
	err := r.extend(size)
	return r, err
}

// extend makes the room size bytes in all.
func (r *reservation) extend(size int64) error {
	if size <= r.size {
		return nil
	}
	available, err := r.space.available()
	if err != nil {
		return err
	}
	more := size - r.size
	if more > available {
		return insufficient(more, available)
	}
	switch err := allocate(r.file, r.size, more); {
	case err == nil:
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		if err := r.promise(size); err != nil {
			return err
		}
	default:
		_ = r.file.Truncate(max(r.size, r.kept)) // give back what a failed fallocate may have taken
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return insufficient(more, available)
		}
		return storageError(err, "reserve %d bytes", more)
	}
	r.size = size
	return nil
}

// promise grows the file on a filesystem without fallocate, and remembers the
// bytes so that they are not promised twice.
func (r *reservation) promise(size int64) error {
	available, err := r.space.available()
	if err != nil {
		return err
	}
	more := size - r.size
	r.space.mu.Lock()
	defer r.space.mu.Unlock()
	if more > available-r.space.promised {
		return insufficient(more, available-r.space.promised)
	}
	if err := r.file.Truncate(size); err != nil {
		return storageError(err, "reserve %d bytes", more)
	}
	r.space.promised += more
	r.promised += more
	return nil
}

// release forgets what was only promised; by now it is written, or not needed.
func (r *reservation) release() {
	r.space.mu.Lock()
	defer r.space.mu.Unlock()
	r.space.promised -= r.promised
	r.promised = 0
}

// available returns the bytes that an unprivileged process may still write.
func (s *space) available() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(s.dirFD, &st); err != nil {
		return 0, storageError(err, "ask the filesystem for its free space")
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// allocate calls fallocate, again when a signal interrupts it.
func allocate(f *os.File, offset, size int64) error {
	for {
		if err := unix.Fallocate(int(f.Fd()), 0, offset, size); err != unix.EINTR {
			return err
		}
	}
}

func insufficient(need, available int64) *Error {
	return fail(InsufficientSpace, "the store needs %d more bytes and its filesystem has %d free: make room or choose another store",
		need, max(0, available))
}

// storageError classes an error of the disk: no room, or no disk to rely on.
func storageError(err error, format string, args ...any) *Error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return failWith(InsufficientSpace, err, format, args...)
	}
	return failWith(StorageError, err, format, args...)
}
