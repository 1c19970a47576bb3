package powercut

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// handlers answers the kernel's requests from the disks of a mount. Files are
// opened for direct I/O: what a program reads and writes reaches the disk as it
// is, and a read that is to fail cannot be served from the page cache.
type handlers struct {
	fuse.RawFileSystem
	mount *Mount
}

// freeBytes is how much room every disk claims to have.
const freeBytes = 1 << 40

// entry answers with an inode.
func entry(disk uint64, a Attr, errno syscall.Errno, out *fuse.EntryOut) fuse.Status {
	if errno != 0 {
		return fuse.Status(errno)
	}
	out.NodeId = nodeID(disk, a.Ino)
	out.Attr = attributes(a)
	return fuse.OK
}

func attributes(a Attr) fuse.Attr {
	out := fuse.Attr{
		Ino: uint64(a.Ino), Mode: a.Mode, Nlink: a.Links, Size: uint64(a.Size),
		Blocks: uint64(a.Size+sectorSize-1) / sectorSize, Blksize: blockSize,
	}
	at := time.Unix(0, a.Ctime)
	out.SetTimes(&at, &at, &at)
	return out
}

// Lookup implements fuse.RawFileSystem.
func (h *handlers) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if in.NodeId == fuse.FUSE_ROOT_ID {
		d, number := h.mount.find(name)
		if d == nil {
			return fuse.ENOENT
		}
		a, errno := d.Stat(RootIno)
		return entry(number, a, errno, out)
	}
	d, ino, number := h.mount.at(in.NodeId)
	if d == nil {
		return fuse.ENOENT
	}
	a, errno := d.Lookup(ino, name)
	return entry(number, a, errno, out)
}

// GetAttr implements fuse.RawFileSystem.
func (h *handlers) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.NodeId == fuse.FUSE_ROOT_ID {
		out.Attr = attributes(Attr{Ino: RootIno, Mode: unix.S_IFDIR | 0o755, Links: 2})
		return fuse.OK
	}
	d, ino, _ := h.mount.at(in.NodeId)
	if d == nil {
		return fuse.ENOENT
	}
	a, errno := d.Stat(ino)
	out.Attr = attributes(a)
	return fuse.Status(errno)
}

// SetAttr implements fuse.RawFileSystem. Owners and times are not kept.
func (h *handlers) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	d, ino, _ := h.mount.at(in.NodeId)
	if d == nil {
		return fuse.ENOENT
	}
	if mode, ok := in.GetMode(); ok {
		if errno := d.Chmod(ino, mode); errno != 0 {
			return fuse.Status(errno)
		}
	}
	if size, ok := in.GetSize(); ok {
		if errno := d.Truncate(ino, int64(size)); errno != 0 {
			return fuse.Status(errno)
		}
	}
	a, errno := d.Stat(ino)
	out.Attr = attributes(a)
	return fuse.Status(errno)
}

// make answers a request for a new inode.
func (h *handlers) make(in *fuse.InHeader, name string, mode uint32, target string, out *fuse.EntryOut) fuse.Status {
	d, ino, number := h.mount.at(in.NodeId)
	if d == nil {
		return fuse.EPERM
	}
	a, errno := d.Make(ino, name, mode, target)
	return entry(number, a, errno, out)
}

// Mkdir implements fuse.RawFileSystem.
func (h *handlers) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return h.make(&in.InHeader, name, unix.S_IFDIR|in.Mode&0o7777, "", out)
}

// Symlink implements fuse.RawFileSystem.
func (h *handlers) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	return h.make(in, name, unix.S_IFLNK|0o777, target, out)
}

// Create implements fuse.RawFileSystem.
func (h *handlers) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	return h.make(&in.InHeader, name, unix.S_IFREG|in.Mode&0o7777, "", &out.EntryOut)
}

// Link implements fuse.RawFileSystem.
func (h *handlers) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	d, dir, number := h.mount.at(in.NodeId)
	if d == nil {
		return fuse.EPERM
	}
	_, ino, _ := h.mount.at(in.Oldnodeid)
	a, errno := d.Link(ino, dir, name)
	return entry(number, a, errno, out)
}

// Readlink implements fuse.RawFileSystem.
func (h *handlers) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	d, ino, _ := h.mount.at(in.NodeId)
	if d == nil {
		return nil, fuse.EINVAL
	}
	target, errno := d.Readlink(ino)
	return []byte(target), fuse.Status(errno)
}

func (h *handlers) remove(in *fuse.InHeader, name string, isDir bool) fuse.Status {
	d, ino, _ := h.mount.at(in.NodeId)
	if d == nil {
		return fuse.EPERM
	}
	return fuse.Status(d.Remove(ino, name, isDir))
}

// Unlink implements fuse.RawFileSystem.
func (h *handlers) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return h.remove(in, name, false)
}

// Rmdir implements fuse.RawFileSystem.
func (h *handlers) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return h.remove(in, name, true)
}

// Rename implements fuse.RawFileSystem.
func (h *handlers) Rename(_ <-chan struct{}, in *fuse.RenameIn, old, name string) fuse.Status {
	from, fromDir, _ := h.mount.at(in.NodeId)
	to, toDir, _ := h.mount.at(in.Newdir)
	if from == nil || from != to {
		return fuse.EXDEV
	}
	return fuse.Status(from.Rename(fromDir, old, toDir, name, in.Flags))
}

// StatFs implements fuse.RawFileSystem.
func (h *handlers) StatFs(_ <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = blockSize, blockSize, 255
	out.Blocks, out.Bfree, out.Bavail = freeBytes/blockSize, freeBytes/blockSize, freeBytes/blockSize
	if d, _, _ := h.mount.at(in.NodeId); d != nil {
		return fuse.Status(d.Free())
	}
	return fuse.OK
}
