package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
)

// giver changes owners within one filesystem. It opens each entry once and does the rest by its descriptor: whoever may write to a
// folder of the store could otherwise put a link, or another folder, in the place of one that was looked at.
type giver struct {
	uid, gid int
	device   uint64
}

// giveStore gives a store to a user, and nothing else: a path that was mistyped may lead to a folder that the node lives by.
func giveStore(path string, uid, gid int) error {
	root, err := os.OpenFile(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) // the path is the caller's choice and may contain links
	if err != nil {
		return fmt.Errorf("look at the store: %w", err)
	}
	defer func() { _ = root.Close() }()
	st, err := statOpen(root)
	if err != nil {
		return err
	}
	g := giver{uid: uid, gid: gid, device: uint64(st.Dev)} //nolint:unconvert // its type differs between platforms
	if g.owns(st) {
		return g.giveLock(root)
	}
	names, err := namesIn(root)
	if err != nil {
		return err
	}
	if err := pull.CheckNames(path, names); err != nil {
		return err
	}
	return g.give(root, st)
}

// give changes the owner of an open entry and of all below it, what is in a folder before the folder itself. So a folder that
// belongs to the user already needs no look inside, which would be forbidden without CAP_DAC_READ_SEARCH, and a store of a thousand
// blobs costs a few system calls. Symbolic links are changed, never followed.
func (g giver) give(entry *os.File, st unix.Stat_t) error {
	switch {
	case uint64(st.Dev) != g.device: //nolint:unconvert // as above
		return fmt.Errorf("another filesystem is mounted at %s, inside the store: unmount it, or choose another directory", entry.Name())
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		if err := g.giveAllIn(entry); err != nil {
			return err
		}
	case st.Nlink > 1:
		return nil // a blob with a name outside of the store, or what was planted to look like one: it stays its owner's
	}
	if err := unix.Fchownat(int(entry.Fd()), "", g.uid, g.gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("give %s to user %d: %w", entry.Name(), g.uid, err)
	}
	return nil
}

func (g giver) giveAllIn(folder *os.File) error {
	names, err := namesIn(folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := g.giveChild(folder, name); err != nil {
			return err
		}
	}
	return nil
}

// giveChild gives what the name of a folder is now; nothing if it is gone, or if it is the user's already.
func (g giver) giveChild(folder *os.File, name string) error {
	path := filepath.Join(folder.Name(), name)
	fd, err := unix.Openat(int(folder.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	entry := os.NewFile(uintptr(fd), path)
	defer func() { _ = entry.Close() }()
	st, err := statOpen(entry)
	if err != nil || g.owns(st) {
		return err
	}
	return g.give(entry, st)
}

// giveLock gives the file LOCK of a store that is the user's already. Root's command line made one that everybody could read, and
// only the owner can change that.
func (g giver) giveLock(root *os.File) error { return g.giveChild(root, pull.LockFile) }

func (g giver) owns(st unix.Stat_t) bool { return int(st.Uid) == g.uid && int(st.Gid) == g.gid }

func statOpen(entry *os.File) (st unix.Stat_t, err error) {
	if err = unix.Fstat(int(entry.Fd()), &st); err != nil {
		err = fmt.Errorf("look at %s: %w", entry.Name(), err)
	}
	return st, err
}

// namesIn lists an open folder.
func namesIn(folder *os.File) ([]string, error) {
	fd, err := unix.Openat(int(folder.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("look into %s: %w", folder.Name(), err)
	}
	reader := os.NewFile(uintptr(fd), folder.Name())
	defer func() { _ = reader.Close() }()
	names, err := reader.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("look into %s: %w", folder.Name(), err)
	}
	return names, nil
}
