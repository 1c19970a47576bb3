package powercut

import (
	"bytes"
	"syscall"

	"golang.org/x/sys/unix"
)

// ReadAt reads from a file.
func (d *Disk) ReadAt(ino Ino, p []byte, offset int64) (int, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, errno := d.fileNode(ino)
	if errno != 0 {
		return 0, errno
	}
	if errno := d.begin(Op{Kind: Read, Path: n.path, Offset: offset, Size: int64(len(p))}); errno != 0 {
		return 0, errno
	}
	return n.image.read(p, offset), 0
}

// WriteAt writes to a file.
func (d *Disk) WriteAt(ino Ino, p []byte, offset int64) syscall.Errno {
	return d.change(ino, change{kind: Write, offset: offset, data: bytes.Clone(p)})
}

// Truncate gives a file another size.
func (d *Disk) Truncate(ino Ino, size int64) syscall.Errno {
	return d.change(ino, change{kind: Truncate, size: size})
}

// Chmod gives an inode other permissions.
func (d *Disk) Chmod(ino Ino, permissions uint32) syscall.Errno {
	return d.change(ino, change{kind: Chmod, mode: permissions & 0o7777})
}

// Allocate is fallocate: what is allocated reads as zeros, and so does a hole.
func (d *Disk) Allocate(ino Ino, flags uint32, offset, size int64) syscall.Errno {
	switch flags {
	case 0:
		return d.change(ino, change{kind: Allocate, offset: offset, size: size})
	case unix.FALLOC_FL_KEEP_SIZE:
		return d.change(ino, change{kind: Allocate})
	case unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE:
		return d.change(ino, change{kind: Write, offset: offset, data: make([]byte, size)})
	default:
		return syscall.EOPNOTSUPP
	}
}

// change makes one change of a file and remembers it.
func (d *Disk) change(ino Ino, c change) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.nodes[ino]
	if n == nil {
		return syscall.ENOENT
	}
	if c.kind != Chmod && !n.isFile() {
		return syscall.EINVAL
	}
	op := Op{Kind: c.kind, Path: n.path, Offset: c.offset, Size: max(c.size, int64(len(c.data)))}
	if errno := d.begin(op); errno != 0 {
		return errno
	}
	c.at = d.done(op)
	c.mode |= n.image.mode & unix.S_IFMT
	n.image.apply(c)
	n.changes = append(n.changes, c)
	d.touch(n)
	return 0
}

// Sync makes the changes of a file or the names in a directory durable.
// dataOnly, of a file, leaves out its mode. When it fails for a file, the changes
// that it was to save are doomed: the kernel takes the pages for clean, and no
// later fsync writes them.
func (d *Disk) Sync(ino Ino, dataOnly bool) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.nodes[ino]
	if n == nil {
		return syscall.ENOENT
	}
	op := Op{Kind: Sync, Path: n.path}
	switch {
	case n.isDir():
		op.Kind = SyncDir
	case dataOnly:
		op.Kind = DataSync
	}
	if errno := d.begin(op); errno != 0 {
		for i := range n.changes {
			c := &n.changes[i]
			c.doomed = c.doomed || !n.durable(*c, len(d.log))
		}
		return errno
	}
	n.syncs = append(n.syncs, syncPoint{d.done(op), dataOnly && n.isFile()})
	return 0
}
