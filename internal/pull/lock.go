package pull

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// LockFile is the name, in the directory of a store, of the file that a process
	// locks to hold the store.
	LockFile = "LOCK"
	lockTemp = LockFile + tempPrefix // the name under which LOCK is made
	// lockMode: whoever can open a file, if only for reading, can hold its flock and
	// keep the store's owner out.
	lockMode = 0o600
	lockPoll = 250 * time.Millisecond
	// lockNotice is how long a process waits before it says who is in its way, and
	// again after each such time. An update of the agent takes less.
	lockNotice = 10 * time.Second
)

// acquire takes the lock of the store.
func (s *Store) acquire(ctx context.Context, options OpenOptions) error {
	next := time.Now().Add(lockNotice)
	for {
		held, err := s.tryLock()
		switch {
		case err != nil:
			return err
		case held:
			s.protectLock()
			return nil
		case !options.Wait:
			return s.busy()
		}
		if options.Waiting != nil && time.Now().After(next) {
			options.Waiting(s.busy())
			next = time.Now().Add(lockNotice)
		}
		if err := pause(ctx, lockPoll); err != nil {
			return fmt.Errorf("wait for the store %s: %w", s.root.path, err)
		}
	}
}

// busy says that another process holds the store, and which one if the kernel tells.
func (s *Store) busy() error {
	who := "another process"
	if st, err := s.root.stat(LockFile); err == nil {
		if holder := lockHolder(st); holder != "" {
			who = holder
		}
	}
	return fail(StoreBusy, "%s holds the lock of the store %s: wait for it to end, or use another store; 'fuser -v %s' as root on the node names every process that has the lock's file open",
		who, s.root.path, s.root.join(LockFile))
}

// tryLock locks the file that LOCK names, which another process may remove or
// replace at any time: the lock counts only if LOCK still names that file afterwards.
func (s *Store) tryLock() (bool, error) {
	f, err := s.openLock()
	if err != nil {
		return false, err
	}
	locked, err := flock(f)
	if locked {
		st, statErr := s.root.stat(LockFile)
		if statErr == nil && sameFile(st, f.Fd()) {
			s.lock = f
			return true, nil
		}
		if !errors.Is(statErr, fs.ErrNotExist) {
			err = statErr
		}
	}
	_ = f.Close()
	return false, err
}

// flock reports whether it got the exclusive lock of a file.
func flock(f *os.File) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case err == unix.EWOULDBLOCK:
			return false, nil
		case err != unix.EINTR:
			return false, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// lockTries bounds how often LOCK is looked for while other processes make and remove it.
const lockTries = 10

// openLock opens LOCK, and makes it if it is missing. It is not opened for writing:
// an open writer would keep the filesystem from being remounted read-only.
func (s *Store) openLock() (f *os.File, err error) {
	for range lockTries {
		f, _, err = s.root.openRegular(LockFile)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, errIrregular): // a power cut may have left both of its names
			if _, tempErr := s.root.stat(lockTemp); tempErr != nil {
				return nil, err
			}
			err = errors.Join(err, s.root.remove(lockTemp))
		case errors.Is(err, fs.ErrNotExist):
			err = s.makeLock()
		}
		if err != nil && !errors.Is(err, errIrregular) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return nil, err
}

// makeLock makes LOCK under another name first, so that it never belongs to anybody
// but the owner of the store, whoever dies in between.
func (s *Store) makeLock() error {
	if err := s.root.remove(lockTemp); err != nil {
		return err
	}
	f, err := s.root.open(lockTemp, unix.O_RDONLY|unix.O_CREAT|unix.O_EXCL, lockMode)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := errors.Join(s.giveToOwner(f), f.Sync()); err != nil {
		return err
	}
	return s.root.moveNew(s.root, lockTemp, LockFile)
}

// giveToOwner gives a file that root made to the owner of the store's directory,
// who could not open it otherwise.
func (s *Store) giveToOwner(f *os.File) error {
	var own, dir unix.Stat_t
	if err := errors.Join(unix.Fstat(int(f.Fd()), &own), unix.Fstat(s.root.fd(), &dir)); err != nil {
		return err
	}
	if os.Geteuid() != 0 || own.Uid == dir.Uid {
		return nil
	}
	if err := f.Chown(int(dir.Uid), int(dir.Gid)); err != nil {
		return fmt.Errorf("give the lock to the owner of the store: %w", err)
	}
	return nil
}

// protectLock takes from others the right to open a LOCK that an earlier version, or
// root, left. Its holder may use the store even if that fails.
func (s *Store) protectLock() {
	err := s.giveToOwner(s.lock)
	if st, statErr := statRegular(s.lock); statErr == nil && st.Mode&0o7777 != lockMode {
		err = errors.Join(err, s.lock.Chmod(lockMode))
	}
	if err != nil {
		s.log.Warn("whoever can read the lock of the store can hold it, and keep this program out at its next start: make it its user's, with mode 0600",
			"file", s.lock.Name(), "error", err)
	}
}
