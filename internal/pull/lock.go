package pull

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockFile = "LOCK"
	lockPoll = 250 * time.Millisecond
)

// acquire takes the lock of the store: of the file that LOCK names once it is
// locked, which another process may have removed or replaced while this one waited.
func (s *Store) acquire(ctx context.Context, wait bool) error {
	for {
		if err := s.flock(ctx, wait); err != nil {
			return err
		}
		st, err := s.root.stat(lockFile)
		if err == nil && sameFile(st, s.lock.Fd()) {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		_ = s.lock.Close()
		if err := pause(ctx, lockPoll); err != nil {
			return fmt.Errorf("wait for the store %s: %w", s.root.path, err)
		}
	}
}

// flock opens the file that LOCK names now, and locks it.
func (s *Store) flock(ctx context.Context, wait bool) (err error) {
	// Not for writing: an open writer would keep the filesystem from being
	// remounted read-only.
	if s.lock, err = s.root.open(lockFile, unix.O_RDONLY|unix.O_CREAT, 0o644); err != nil {
		return err
	}
	if _, err := statRegular(s.lock); err != nil {
		return err
	}
	for {
		err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case err == unix.EINTR:
			continue
		case err != unix.EWOULDBLOCK:
			return fmt.Errorf("lock %s: %w", s.lock.Name(), err)
		case !wait:
			return fail(StoreBusy, "another process holds the store %s: wait for it to end, or use another store", s.root.path)
		}
		if err := pause(ctx, lockPoll); err != nil {
			return fmt.Errorf("wait for the store %s: %w", s.root.path, err)
		}
	}
}
