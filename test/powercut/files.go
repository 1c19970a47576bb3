package powercut

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Open implements fuse.RawFileSystem.
func (h *handlers) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	d, ino, _ := h.mount.at(in.NodeId)
	if d == nil {
		return fuse.ENOENT
	}
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	if in.Flags&unix.O_TRUNC != 0 {
		return fuse.Status(d.Truncate(ino, 0))
	}
	return fuse.OK
}

// Read implements fuse.RawFileSystem.
func (h *handlers) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	d, ino, _ := h.mount.at(in.NodeId)
	if d == nil {
		return nil, fuse.ENOENT
	}
	n, errno := d.ReadAt(ino, buf, int64(in.Offset))
	return fuse.ReadResultData(buf[:n]), fuse.Status(errno)
}

// Write implements fuse.RawFileSystem.
func (h *handlers) Write(_ <-chan struct{}, in *fuse.WriteIn, p []byte) (uint32, fuse.Status) {
	d, ino, _ := h.mount.at(in.NodeId)
	if d == nil {
		return 0, fuse.ENOENT
	}
	if errno := d.WriteAt(ino, p, int64(in.Offset)); errno != 0 {
		return 0, fuse.Status(errno)
	}
	return uint32(len(p)), fuse.OK
}

// Fallocate implements fuse.RawFileSystem.
func (h *handlers) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	d, ino, _ := h.mount.at(in.NodeId)
	if d == nil {
		return fuse.ENOENT
	}
	return fuse.Status(d.Allocate(ino, in.Mode, int64(in.Offset), int64(in.Length)))
}

// dataOnly is the flag of an FsyncIn that makes it an fdatasync.
const dataOnly = 1

func (h *handlers) sync(in *fuse.FsyncIn) fuse.Status {
	d, ino, _ := h.mount.at(in.NodeId)
	if d == nil {
		return fuse.OK
	}
	return fuse.Status(d.Sync(ino, in.FsyncFlags&dataOnly != 0))
}

// Fsync implements fuse.RawFileSystem.
func (h *handlers) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status { return h.sync(in) }

// FsyncDir implements fuse.RawFileSystem.
func (h *handlers) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status { return h.sync(in) }

// Flush implements fuse.RawFileSystem: a close syncs nothing.
func (h *handlers) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

// OpenDir implements fuse.RawFileSystem.
func (h *handlers) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	var entries []Entry
	if in.NodeId != fuse.FUSE_ROOT_ID {
		d, ino, _ := h.mount.at(in.NodeId)
		if d == nil {
			return fuse.ENOENT
		}
		var errno syscall.Errno
		if entries, errno = d.Entries(ino); errno != 0 {
			return fuse.Status(errno)
		}
	}
	out.Fh = h.mount.remember(entries)
	return fuse.OK
}

// ReadDir implements fuse.RawFileSystem.
func (h *handlers) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	entries := h.mount.listing(in.Fh)
	for i := in.Offset; i < uint64(len(entries)); i++ {
		e := entries[i]
		if !out.AddDirEntry(fuse.DirEntry{Name: e.Name, Mode: e.Attr.Mode, Ino: uint64(e.Attr.Ino), Off: i + 1}) {
			break
		}
	}
	return fuse.OK
}

// ReleaseDir implements fuse.RawFileSystem.
func (h *handlers) ReleaseDir(in *fuse.ReleaseIn) { h.mount.forget(in.Fh) }
