package powercut

import (
	"fmt"
	"path/filepath"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Mount shows disks to the kernel: each is a directory of one FUSE mount.
type Mount struct {
	dir    string
	server *fuse.Server

	mu    sync.Mutex
	disks map[uint64]*Disk
	last  uint64
	lists map[uint64][]Entry // of open directories
}

// NewMount mounts at an empty directory. It needs root and /dev/fuse.
func NewMount(dir string) (*Mount, error) {
	m := &Mount{dir: dir, disks: map[uint64]*Disk{}, lists: map[uint64][]Entry{}}
	server, err := fuse.NewServer(&handlers{fuse.NewDefaultRawFileSystem(), m}, dir, &fuse.MountOptions{
		FsName: "powercut", Name: "powercut", DirectMountStrict: true,
		DisableXAttrs: true, DisableReadDirPlus: true, MaxWrite: 1 << 20,
	})
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	m.server = server
	go server.Serve() // ends with Close, which waits for it
	if err := server.WaitMount(); err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	return m, nil
}

// Insert shows a disk and returns the path of its root.
func (m *Mount) Insert(d *Disk) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	m.disks[m.last] = d
	return filepath.Join(m.dir, diskName(m.last))
}

// Eject takes a disk away. Nothing of it may be open.
func (m *Mount) Eject(d *Disk) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for number, one := range m.disks {
		if one == d {
			delete(m.disks, number)
		}
	}
}

func diskName(number uint64) string { return fmt.Sprintf("disk-%d", number) }

// Close unmounts.
func (m *Mount) Close() error {
	if err := m.server.Unmount(); err != nil {
		return fmt.Errorf("unmount %s: %w", m.dir, err)
	}
	m.server.Wait()
	return nil
}

// diskBits is where a node number of the mount has the inode; above it is the
// number of the disk.
const diskBits = 32

func nodeID(disk uint64, ino Ino) uint64 { return disk<<diskBits | uint64(ino) }

// at returns the disk and inode of a node; nil for the root of the mount.
func (m *Mount) at(node uint64) (*Disk, Ino, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	number := node >> diskBits
	return m.disks[number], Ino(node & (1<<diskBits - 1)), number
}

// find returns the disk of a name in the root of the mount.
func (m *Mount) find(name string) (*Disk, uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for number, d := range m.disks {
		if diskName(number) == name {
			return d, number
		}
	}
	return nil, 0
}

// remember keeps the listing of a directory from its opening to its release, so
// that names that are removed meanwhile move no others.
func (m *Mount) remember(entries []Entry) (handle uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last++
	m.lists[m.last] = entries
	return m.last
}

func (m *Mount) listing(handle uint64) []Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lists[handle]
}

func (m *Mount) forget(handle uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.lists, handle)
}
