package pull

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// dir is an open directory of the store. Everything below it is reached through
// its descriptor and never through a symbolic link, so that whoever can plant a
// link in the store still cannot lead a privileged process out of it.
type dir struct {
	file *os.File
	path string // for messages and results
}

// errIrregular: the name leads to something that the store did not put there.
var errIrregular = errors.New("not a file of this store")

// openRoot opens the store's own directory. Its path is the caller's choice and
// may contain links.
func openRoot(path string) (*dir, error) {
	f, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &dir{file: f, path: path}, nil
}

// makeAll is os.MkdirAll, and durable: a store whose own name is lost takes its
// blobs with it.
func makeAll(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeAll(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	parent, err := openRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(parent.sync(), parent.close())
}

func (d *dir) fd() int      { return int(d.file.Fd()) }
func (d *dir) close() error { return d.file.Close() }

func (d *dir) join(name string) string { return filepath.Join(d.path, name) }

// sync makes the directory's entries durable.
func (d *dir) sync() error { return d.file.Sync() }

// open opens a path below d without following any link.
func (d *dir) open(name string, flags int, mode os.FileMode) (*os.File, error) {
	fd, err := openBeneath(d.fd(), name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, uint32(mode.Perm()))
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: d.join(name), Err: err}
	}
	return os.NewFile(uintptr(fd), d.join(name)), nil
}

// openBeneath opens name below the directory at, with openat2 where the kernel
// and the sandbox have it.
func openBeneath(at int, name string, flags int, mode uint32) (int, error) {
	if !filepath.IsLocal(name) {
		return -1, unix.EXDEV
	}
	how := unix.OpenHow{
		Flags:   uint64(flags),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(mode)
	}
	fd, err := ignoringEINTR(func() (int, error) { return unix.Openat2(at, name, &how) })
	if err == unix.ENOSYS || err == unix.EPERM || err == unix.EINVAL { // old kernel, or a seccomp filter
		return openByComponent(at, name, flags, mode)
	}
	return fd, err
}

// openByComponent opens name one component after the other, each without
// following a link.
func openByComponent(at int, name string, flags int, mode uint32) (int, error) {
	parts := strings.Split(filepath.Clean(name), "/")
	current := at
	defer func() {
		if current != at {
			_ = unix.Close(current)
		}
	}()
	for _, part := range parts[:len(parts)-1] {
		next, err := ignoringEINTR(func() (int, error) {
			return unix.Openat(current, part, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_PATH, 0)
		})
		if err != nil {
			return -1, err
		}
		if current != at {
			_ = unix.Close(current)
		}
		current = next
	}
	return ignoringEINTR(func() (int, error) {
		return unix.Openat(current, parts[len(parts)-1], flags|unix.O_NOFOLLOW, mode)
	})
}

func ignoringEINTR(open func() (int, error)) (int, error) {
	for {
		fd, err := open()
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// subdir opens the directory name below d, making it when missing. Its name is
// synced in any case: whoever made it may have died before that.
func (d *dir) subdir(name string) (*dir, error) {
	f, err := d.open(name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := unix.Mkdirat(d.fd(), name, 0o755); err != nil && err != unix.EEXIST {
			return nil, &fs.PathError{Op: "mkdir", Path: d.join(name), Err: err}
		}
		f, err = d.open(name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := d.sync(); err != nil {
		_ = f.Close()
		return nil, err
	}
	return &dir{file: f, path: d.join(name)}, nil
}

// openRegular opens the file name for reading and makes sure that it is a
// regular file with no second name, through which it could be changed unseen.
func (d *dir) openRegular(name string) (*os.File, unix.Stat_t, error) {
	f, st, err := d.openFile(name, 0)
	if err != nil {
		return nil, st, err
	}
	if _, err := statRegular(f); err != nil {
		_ = f.Close()
		return nil, st, err
	}
	return f, st, nil
}

// openFile opens the regular file name for reading, with flags besides.
func (d *dir) openFile(name string, flags int) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	// O_NONBLOCK: a planted FIFO must not block the open.
	f, err := d.open(name, unix.O_RDONLY|unix.O_NONBLOCK|flags, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) { // a link, a socket
		return nil, st, fmt.Errorf("%w: %w", errIrregular, err)
	}
	if err != nil {
		return nil, st, err
	}
	switch err = unix.Fstat(int(f.Fd()), &st); {
	case err != nil:
		err = &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = fmt.Errorf("%w: %s is not a regular file", errIrregular, f.Name())
	default:
		return f, st, nil
	}
	_ = f.Close()
	return nil, st, err
}

// statRegular stats an open file and refuses all but a regular file with one link.
func statRegular(f *os.File) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, &fs.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return st, fmt.Errorf("%w: %s is not a regular file", errIrregular, f.Name())
	}
	if st.Nlink != 1 {
		return st, fmt.Errorf("%w: %s has %d hard links, not one", errIrregular, f.Name(), st.Nlink)
	}
	return st, nil
}

// stat returns what the entry name is, without following it.
func (d *dir) stat(name string) (unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, &fs.PathError{Op: "stat", Path: d.join(name), Err: err}
	}
	return st, nil
}

// names lists the entries of d.
func (d *dir) names() ([]string, error) {
	// A descriptor of its own: the offset of d's is shared by all callers.
	f, err := d.open(".", unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return f.Readdirnames(-1)
}

// remove unlinks the entry name, whatever it is, with all that is below it. It
// follows no link. A missing entry is no error.
func (d *dir) remove(name string) error {
	err := unix.Unlinkat(d.fd(), name, 0)
	switch {
	case err == nil || err == unix.ENOENT:
		return nil
	case err != unix.EISDIR && err != unix.EPERM: // EPERM: what POSIX has unlink say of a directory
		return &fs.PathError{Op: "unlink", Path: d.join(name), Err: err}
	}
	f, err := d.open(name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	below := &dir{file: f, path: d.join(name)}
	defer func() { _ = below.close() }()
	names, err := below.names()
	if err != nil {
		return err
	}
	for _, child := range names {
		if err := below.remove(child); err != nil {
			return err
		}
	}
	if err := unix.Unlinkat(d.fd(), name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return &fs.PathError{Op: "rmdir", Path: d.join(name), Err: err}
	}
	return nil
}

// moveNew renames from/old to d/name, and fails with fs.ErrExist rather than
// replace anything.
func (d *dir) moveNew(from *dir, old, name string) error {
	err := unix.Renameat2(from.fd(), old, d.fd(), name, unix.RENAME_NOREPLACE)
	if err == unix.EINVAL || err == unix.ENOSYS || err == unix.EPERM { // a filesystem or sandbox without it
		err = d.linkNew(from, old, name)
	}
	if err != nil {
		return &fs.PathError{Op: "publish", Path: d.join(name), Err: err}
	}
	return nil
}

// linkNew is moveNew in two steps. A power cut between them leaves both names,
// which is why nothing under partial/ is opened before it has one name only.
func (d *dir) linkNew(from *dir, old, name string) error {
	if err := unix.Linkat(from.fd(), old, d.fd(), name, 0); err != nil {
		return err
	}
	return unix.Unlinkat(from.fd(), old, 0)
}
