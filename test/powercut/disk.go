package powercut

import (
	"path"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Ino is the number of an inode. A disk and what a power cut leaves of it give
// the same inode the same number.
type Ino uint64

// RootIno is the root directory of every disk.
const RootIno Ino = 1

// Disk is a file system in memory with a memory of its own past. It is safe for
// concurrent use.
type Disk struct {
	mu    sync.Mutex
	nodes map[Ino]*node
	last  Ino
	clock int64 // moves with every change, and is what ctime shows
	log   []Op
	moves []move
	fault func(Op) syscall.Errno
}

// move is a rename: two names that change together.
type move struct {
	at   int
	from *node
	old  string
	to   *node
	name string
}

// node is an inode, as it is now and as it was.
type node struct {
	ino    Ino
	links  uint32
	ctime  int64
	target string // of a symlink
	path   string // where it was last seen, for the log

	image   image // now; its mode says what kind of inode it is
	base    image // what is durable from the start
	changes []change
	syncs   []syncPoint // of a file or directory

	slots map[string][]version // of a directory
}

// change is one change of a file's content or mode.
type change struct {
	at     int // operations before it
	kind   Kind
	offset int64
	data   []byte // of a write
	size   int64  // of a truncate or fallocate
	mode   uint32
	doomed bool // an fsync of it failed, and a later one does not try again
}

// syncPoint is an fsync or fdatasync that succeeded.
type syncPoint struct {
	at       int
	dataOnly bool
}

// version is what a name in a directory led to from an operation on; 0 is nothing.
type version struct {
	at  int
	ino Ino
}

// fromStart is the position of what was there before the first operation.
const fromStart = -1

// NewDisk returns a disk with an empty root directory.
func NewDisk() *Disk {
	d := &Disk{nodes: map[Ino]*node{}}
	d.newNode(unix.S_IFDIR | 0o755).path = "/"
	return d
}

func (d *Disk) newNode(mode uint32) *node {
	d.last++
	n := &node{ino: d.last, image: image{mode: mode}, base: image{mode: mode}}
	if n.isDir() {
		n.slots = map[string][]version{}
	}
	d.nodes[n.ino] = n
	d.touch(n)
	return n
}

func (n *node) isDir() bool  { return n.image.mode&unix.S_IFMT == unix.S_IFDIR }
func (n *node) isFile() bool { return n.image.mode&unix.S_IFMT == unix.S_IFREG }

// entry returns what a name of a directory leads to now; 0 is nothing.
func (n *node) entry(name string) Ino {
	history := n.slots[name]
	if len(history) == 0 {
		return 0
	}
	return history[len(history)-1].ino
}

// touch moves the ctime of n.
func (d *Disk) touch(n *node) {
	d.clock++
	n.ctime = d.clock
}

// Fail makes every operation ask rule first; what is not 0 is its error. The rule
// runs one operation at a time. nil makes the disk healthy.
func (d *Disk) Fail(rule func(Op) syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = rule
}

// Rule returns the rule in force, never nil.
func (d *Disk) Rule() func(Op) syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault == nil {
		return func(Op) syscall.Errno { return 0 }
	}
	return d.fault
}

// Log returns the operations so far, and so the moments at which power can fail:
// before the first, and after each.
func (d *Disk) Log() []Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clip(d.log)
}

// begin admits an operation, or returns the error that it is to have. The caller
// holds mu.
func (d *Disk) begin(op Op) syscall.Errno {
	if d.fault == nil {
		return 0
	}
	return d.fault(op)
}

// done logs an operation and returns its position.
func (d *Disk) done(op Op) int {
	d.log = append(d.log, op)
	return len(d.log) - 1
}

func (d *Disk) dirNode(ino Ino) (*node, syscall.Errno) {
	n := d.nodes[ino]
	switch {
	case n == nil:
		return nil, syscall.ENOENT
	case !n.isDir():
		return nil, syscall.ENOTDIR
	}
	return n, 0
}

func (d *Disk) fileNode(ino Ino) (*node, syscall.Errno) {
	n := d.nodes[ino]
	switch {
	case n == nil:
		return nil, syscall.ENOENT
	case n.isDir():
		return nil, syscall.EISDIR
	case !n.isFile():
		return nil, syscall.EINVAL
	}
	return n, 0
}

// Attr is what stat shows of an inode.
type Attr struct {
	Ino   Ino
	Mode  uint32
	Links uint32
	Size  int64
	Ctime int64 // nanoseconds
}

// Stat returns the attributes of an inode.
func (d *Disk) Stat(ino Ino) (Attr, syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.nodes[ino]
	if n == nil {
		return Attr{}, syscall.ENOENT
	}
	return n.attr(), 0
}

func (n *node) attr() Attr {
	return Attr{Ino: n.ino, Mode: n.image.mode, Links: n.links, Size: max(n.image.size, int64(len(n.target))), Ctime: n.ctime}
}

// Free is asked for before the disk says how much room it has.
func (d *Disk) Free() syscall.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.begin(Op{Kind: Stat, Path: "/"})
}

// below is the path of a name in a directory.
func (n *node) below(name string) string { return path.Join(n.path, name) }
