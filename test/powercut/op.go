package powercut

import "fmt"

// Kind is the kind of an operation on a disk.
type Kind string

// The operations. All but Read and Stat change the disk or make a change durable,
// and are logged.
const (
	Create   Kind = "create"
	Mkdir    Kind = "mkdir"
	Symlink  Kind = "symlink"
	Link     Kind = "link"
	Unlink   Kind = "unlink"
	Rmdir    Kind = "rmdir"
	Rename   Kind = "rename"
	Write    Kind = "write"
	Truncate Kind = "truncate"
	Allocate Kind = "fallocate"
	Chmod    Kind = "chmod"
	Sync     Kind = "fsync"
	DataSync Kind = "fdatasync"
	SyncDir  Kind = "fsync of a directory"
	Read     Kind = "read"
	Stat     Kind = "statfs"
)

// Op is one operation.
type Op struct {
	Kind   Kind
	Path   string // from the root of the disk; of a rename or link, the new one
	Old    string // of a rename or link
	Offset int64
	Size   int64
	Flags  uint32 // of a rename or fallocate
}

// String describes the operation in a line.
func (o Op) String() string {
	switch o.Kind {
	case Rename, Link:
		return fmt.Sprintf("%s %s to %s", o.Kind, o.Old, o.Path)
	case Write, Allocate, Read:
		return fmt.Sprintf("%s %s [%d, %d)", o.Kind, o.Path, o.Offset, o.Offset+o.Size)
	case Truncate:
		return fmt.Sprintf("%s %s to %d", o.Kind, o.Path, o.Size)
	default:
		return fmt.Sprintf("%s %s", o.Kind, o.Path)
	}
}
