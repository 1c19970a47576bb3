package powercut

import (
	"path"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// Lookup returns what a name in a directory leads to.
func (d *Disk) Lookup(dir Ino, name string) (Attr, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, errno := d.dirNode(dir)
	if errno != 0 {
		return Attr{}, errno
	}
	n := d.nodes[parent.entry(name)]
	if n == nil {
		return Attr{}, syscall.ENOENT
	}
	return n.attr(), 0
}

// Entry is a name in a directory.
type Entry struct {
	Name string
	Attr Attr
}

// Entries returns the names in a directory, sorted.
func (d *Disk) Entries(dir Ino) ([]Entry, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, errno := d.dirNode(dir)
	if errno != 0 {
		return nil, errno
	}
	var entries []Entry
	for name := range parent.slots {
		if n := d.nodes[parent.entry(name)]; n != nil {
			entries = append(entries, Entry{name, n.attr()})
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return entries, 0
}

// Readlink returns where a symlink leads.
func (d *Disk) Readlink(ino Ino) (string, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.nodes[ino]
	if n == nil || n.image.mode&unix.S_IFMT != unix.S_IFLNK {
		return "", syscall.EINVAL
	}
	return n.target, 0
}

// Make makes a file, a directory or, with a target, a symlink; mode says which.
func (d *Disk) Make(dir Ino, name string, mode uint32, target string) (Attr, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, errno := d.vacant(dir, name)
	if errno != 0 {
		return Attr{}, errno
	}
	op := Op{Kind: Create, Path: parent.below(name)}
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		op.Kind = Mkdir
	case unix.S_IFLNK:
		op.Kind = Symlink
	}
	if errno := d.begin(op); errno != 0 {
		return Attr{}, errno
	}
	n := d.newNode(mode)
	n.target = target
	d.enter(parent, name, n, d.done(op))
	return n.attr(), 0
}

// Link gives an inode that is no directory another name.
func (d *Disk) Link(ino Ino, dir Ino, name string) (Attr, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, errno := d.vacant(dir, name)
	if errno != 0 {
		return Attr{}, errno
	}
	n := d.nodes[ino]
	if n == nil || n.isDir() {
		return Attr{}, syscall.EPERM
	}
	op := Op{Kind: Link, Path: parent.below(name), Old: n.path}
	if errno := d.begin(op); errno != 0 {
		return Attr{}, errno
	}
	d.enter(parent, name, n, d.done(op))
	return n.attr(), 0
}

// Remove takes a name away: of a directory, if isDir.
func (d *Disk) Remove(dir Ino, name string, isDir bool) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	parent, errno := d.dirNode(dir)
	if errno != 0 {
		return errno
	}
	n := d.nodes[parent.entry(name)]
	op := Op{Kind: Unlink, Path: parent.below(name)}
	switch {
	case n == nil:
		return syscall.ENOENT
	case isDir && !n.isDir():
		return syscall.ENOTDIR
	case !isDir && n.isDir():
		return syscall.EISDIR
	case isDir && !n.empty():
		return syscall.ENOTEMPTY
	case isDir:
		op.Kind = Rmdir
	}
	if errno := d.begin(op); errno != 0 {
		return errno
	}
	d.leave(parent, name, d.done(op))
	return 0
}

// Rename moves a file or symlink; of the flags only RENAME_NOREPLACE is known.
// Directories stay where they are.
func (d *Disk) Rename(fromDir Ino, old string, toDir Ino, name string, flags uint32) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	from, errno := d.dirNode(fromDir)
	if errno != 0 {
		return errno
	}
	to, errno := d.dirNode(toDir)
	if errno != 0 {
		return errno
	}
	n, there := d.nodes[from.entry(old)], d.nodes[to.entry(name)]
	switch {
	case flags&^unix.RENAME_NOREPLACE != 0:
		return syscall.EINVAL
	case n == nil:
		return syscall.ENOENT
	case n.isDir():
		return syscall.EXDEV
	case there != nil && flags&unix.RENAME_NOREPLACE != 0:
		return syscall.EEXIST
	case there != nil && there.isDir():
		return syscall.EISDIR
	}
	op := Op{Kind: Rename, Path: to.below(name), Old: from.below(old), Flags: flags}
	if errno := d.begin(op); errno != 0 || there == n {
		return errno
	}
	at := d.done(op)
	if there != nil {
		d.unlinked(there)
	}
	d.moves = append(d.moves, move{at, from, old, to, name})
	d.leave(from, old, at)
	d.enter(to, name, n, at)
	return 0
}

// vacant returns a directory that has no such name.
func (d *Disk) vacant(dir Ino, name string) (*node, syscall.Errno) {
	parent, errno := d.dirNode(dir)
	if errno == 0 && parent.entry(name) != 0 {
		errno = syscall.EEXIST
	}
	return parent, errno
}

func (n *node) empty() bool {
	for name := range n.slots {
		if n.entry(name) != 0 {
			return false
		}
	}
	return true
}

// enter makes a name lead to n.
func (d *Disk) enter(parent *node, name string, n *node, at int) {
	parent.set(name, version{at, n.ino})
	n.path = path.Join(parent.path, name)
	n.links++
	d.touch(n)
	d.touch(parent)
}

// leave makes a name lead nowhere.
func (d *Disk) leave(parent *node, name string, at int) {
	d.unlinked(d.nodes[parent.entry(name)])
	parent.set(name, version{at, 0})
	d.touch(parent)
}

func (d *Disk) unlinked(n *node) {
	n.links--
	d.touch(n)
}

func (n *node) set(name string, v version) {
	if n.slots[name] == nil {
		n.slots[name] = []version{{fromStart, 0}}
	}
	n.slots[name] = append(n.slots[name], v)
}
