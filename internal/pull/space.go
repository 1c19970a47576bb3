package pull

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// growStep is how far ahead the space of an object of unknown size is reserved.
const growStep = 64 << 20

// Limits bound what a store takes of its filesystem. The zero value is no limit.
type Limits struct {
	// MaxSize is the most that blobs, unfinished pulls and quarantine may take
	// together, in bytes; 0 is no limit.
	MaxSize int64
	// MinFree has to stay free on the filesystem: so many bytes, or so many
	// percent of its capacity, whichever is more.
	MinFree        int64
	MinFreePercent float64
}

// keepFree returns how many bytes of a filesystem have to stay free.
func (l Limits) keepFree(capacity int64) int64 {
	return max(l.MinFree, int64(float64(capacity)*l.MinFreePercent/100))
}

// space reserves room on the store's filesystem before bytes are written, so
// that a full disk shows at once and not after an hour.
type space struct {
	limits Limits
	// used returns what counts against the budget now, in bytes.
	used func() (int64, error)
	// measure returns the bytes of the filesystem, and those that an unprivileged
	// process may still write.
	measure func() (capacity, available int64, err error)

	mu       sync.Mutex
	promised map[*reservation]int64 // sizes promised to files on a filesystem that cannot reserve
}

// reservation is the room reserved for one file.
type reservation struct {
	space *space
	file  *os.File
	size  int64 // bytes reserved
	kept  int64 // bytes that the file had before, which stay whatever fails
}

// shortage is what a file is to grow by, and how much of that does not fit.
type shortage struct {
	need      int64 // bytes to be reserved
	available int64 // bytes of the filesystem that may be used for them
	keepFree  int64 // bytes of it that may not
	free      int64 // bytes missing on the filesystem
	used, max int64 // of the budget, in bytes; 0 without one
	budget    int64 // bytes missing in the budget
}

func (s shortage) fits() bool { return s.free <= 0 && s.budget <= 0 }

// charge is what a data file of size bytes counts against the budget: itself, and
// the journal that it may get.
func charge(size int64) int64 {
	if size <= 0 {
		return 0
	}
	return size + 2*slotSize(size)
}

// lacks returns what is missing for the file to have size bytes.
func (r *reservation) lacks(size int64) (shortage, error) {
	capacity, available, err := r.space.measure()
	if err != nil {
		return shortage{}, err
	}
	s := shortage{need: size - r.size, keepFree: r.space.limits.keepFree(capacity), max: r.space.limits.MaxSize}
	// What is missing already has to go free as well.
	room := available - r.space.outstanding() - s.keepFree
	s.available, s.free = max(0, room), max(0, s.need-room)
	if s.max == 0 {
		return s, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(r.file.Fd()), &st); err != nil {
		return s, storageError(err, "look at the data file")
	}
	if s.used, err = r.space.used(); err != nil {
		return s, err
	}
	growth := max(0, charge(size)-charge(cost(st)))
	s.budget = max(0, s.used+growth-s.max)
	return s, nil
}

// grow extends the reservation to size bytes if that fits, and returns what is
// missing if it does not.
func (r *reservation) grow(size int64) (shortage, error) {
	short, err := r.lacks(size)
	if err != nil || !short.fits() {
		return short, err
	}
	if err = r.extend(size); reasonOf(err) == InsufficientSpace {
		// A quota, or a filesystem with less room for this file than it said.
		short.free, err = short.need, nil
	}
	return short, err
}

// extend makes the room size bytes in all. Whether it fits was asked before.
func (r *reservation) extend(size int64) error {
	if size <= r.size {
		return nil
	}
	more := size - r.size
	switch err := allocate(r.file, r.size, more); {
	case err == nil:
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		if err := r.promise(size); err != nil {
			return err
		}
	default:
		_ = r.file.Truncate(max(r.size, r.kept)) // give back what a failed fallocate may have taken
		return storageError(err, "reserve %d bytes", more)
	}
	r.size = size
	return nil
}

// promise grows the file on a filesystem without fallocate, and remembers its
// size so that no byte is promised twice.
func (r *reservation) promise(size int64) error {
	if err := r.file.Truncate(size); err != nil {
		return storageError(err, "reserve %d bytes", size)
	}
	r.space.mu.Lock()
	defer r.space.mu.Unlock()
	if r.space.promised == nil {
		r.space.promised = map[*reservation]int64{}
	}
	r.space.promised[r] = size
	return nil
}

// release forgets what was only promised; by now it is written, or not needed.
func (r *reservation) release() {
	r.space.mu.Lock()
	defer r.space.mu.Unlock()
	delete(r.space.promised, r)
}

// outstanding returns how many bytes are promised and not written.
func (s *space) outstanding() (bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for r, size := range s.promised {
		var st unix.Stat_t
		if err := unix.Fstat(int(r.file.Fd()), &st); err == nil {
			bytes += max(0, size-st.Blocks*512)
		}
	}
	return bytes
}

// measure returns the bytes of the filesystem, and those that an unprivileged
// process may still write.
func (d *dir) measure() (capacity, available int64, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(d.fd(), &st); err != nil {
		return 0, 0, storageError(err, "ask the filesystem for its free space")
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Bavail) * st.Bsize, nil
}

// allocate calls fallocate, again when a signal interrupts it.
func allocate(f *os.File, offset, size int64) error {
	for {
		if err := unix.Fallocate(int(f.Fd()), 0, offset, size); err != unix.EINTR {
			return err
		}
	}
}

// error tells what is missing, and what to do about it. removable is what might
// be evicted, in bytes, and was not because it would not do.
func (s shortage) error(removable int64) *Error {
	text := FormatBytes(s.need) + " more are needed"
	if s.free > 0 {
		text += fmt.Sprintf(", the filesystem has %s for images", FormatBytes(s.available))
		if s.keepFree > 0 {
			text += fmt.Sprintf(" (%s stay free)", FormatBytes(s.keepFree))
		}
	}
	if s.budget > 0 {
		text += fmt.Sprintf(", the store takes %s of at most %s", FormatBytes(s.used), FormatBytes(s.max))
	}
	advice := "remove images or make room"
	if s.budget > 0 {
		advice = "remove images or raise the limit"
	}
	return fail(InsufficientSpace, "%s, %s could be evicted: %s", text, FormatBytes(removable), advice)
}

// storageError classes an error of the disk: no room, or no disk to rely on.
func storageError(err error, format string, args ...any) *Error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return failWith(InsufficientSpace, err, format, args...)
	}
	return failWith(StorageError, err, format, args...)
}
