package powercut

import (
	"bytes"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// Sizes of objects: one that is a few writes, and one that takes two leases.
const (
	small = 300<<10 + 1<<10
	large = 4<<20 + 200<<10 + 4<<10
)

// TestPowerCut cuts the power after every operation of a pull, in every way, and
// pulls again from what is left.
func TestPowerCut(t *testing.T) {
	m := mount(t)
	tests := []struct {
		name       string
		size       int
		random     int // choices at random, for each cut
		spare      int // so many different disks are only looked at, for each that is recovered
		request    pull.Request
		behaviours []pulltest.Behaviour
		disk       func(t *testing.T, r *recording) *Disk // before the pull
	}{
		{name: "new store", size: small, random: 10, disk: blank},
		{name: "old file system", size: small, random: 10, disk: oldFileSystem},
		{name: "unknown digest", size: small, random: 3, request: pull.Request{Digest: "none"}, disk: emptyStore},
		{
			name: "stream of unknown size", size: small, random: 3, request: pull.Request{MaxSize: 1 << 20},
			behaviours: []pulltest.Behaviour{pulltest.NoRanges, pulltest.Frame(pulltest.Chunked)}, disk: emptyStore,
		},
		{name: "image had another blob", size: small, random: 10, disk: olderImage},
		{name: "blob was wrong", size: small, random: 10, disk: rottenBlob},
		{name: "several connections", size: large, random: 1, spare: 2, request: pull.Request{Connections: 2}, disk: emptyStore},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recording{mount: m, wanted: newImage("disk", 1, tt.size)}
			r.request = tt.request
			server := pulltest.New(t, pulltest.Bytes(r.wanted.bytes), tt.behaviours...)
			r.request.URL, r.request.ImageName = server.URL, r.wanted.name
			r.request.Connections = max(1, tt.request.Connections)
			if r.request.Digest = r.wanted.digest; tt.request.Digest == "none" {
				r.request.Digest = ""
			}
			r.record(t, tt.disk(t, r))
			r.request.Digest = r.wanted.digest // by now it is known
			number := 0
			r.cuts(t, 0, tt.random, func(t *testing.T, where string, left *Disk) {
				t.Helper()
				if number++; number%(tt.spare+1) == 0 {
					r.recover(t, where, left)
				}
			})
		})
	}
}

func blank(*testing.T, *recording) *Disk { return NewDisk() }

// emptyStore is a store that has been opened before.
func emptyStore(t *testing.T, r *recording) *Disk {
	t.Helper()
	d := NewDisk()
	open(t, r.mount, d)
	return settled(d)
}

// oldFileSystem can neither reserve room nor rename without replacing, as NFS.
func oldFileSystem(t *testing.T, r *recording) *Disk {
	t.Helper()
	d := emptyStore(t, r)
	d.Fail(func(op Op) syscall.Errno {
		switch {
		case op.Kind == Allocate:
			return syscall.EOPNOTSUPP
		case op.Kind == Rename && op.Flags&unix.RENAME_NOREPLACE != 0:
			return syscall.EINVAL
		}
		return 0
	})
	return d
}

// olderImage has a blob under the image's name already, and another image of it.
func olderImage(t *testing.T, r *recording) *Disk {
	t.Helper()
	d, older := NewDisk(), newImage(r.wanted.name, 2, small/2)
	server := pulltest.New(t, pulltest.Bytes(older.bytes))
	for _, name := range []string{older.name, "other"} {
		older.name = name
		(&recording{mount: r.mount, wanted: older, request: older.request(server)}).record(t, d)
	}
	return settled(d)
}

// rottenBlob has a blob with one bit flipped.
func rottenBlob(t *testing.T, r *recording) *Disk {
	t.Helper()
	d := NewDisk()
	server := pulltest.New(t, pulltest.Bytes(r.wanted.bytes))
	(&recording{mount: r.mount, wanted: r.wanted, request: r.wanted.request(server)}).record(t, d)
	blob := d.Tree()[r.wanted.blobPath()]
	rot := bytes.Clone(r.wanted.bytes)
	rot[len(rot)/2] ^= 1
	r.rot = sumsOf(rot)
	if errno := d.WriteAt(blob.Ino, rot, 0); errno != 0 {
		t.Fatal(errno)
	}
	return settled(d)
}

// copyIn puts the blob into the store of a disk as a copying program does, which
// syncs nothing.
func (r *recording) copyIn(t *testing.T, d *Disk) {
	t.Helper()
	blob, errno := d.Make(d.Tree()[blobsDir].Ino, r.wanted.hex(), unix.S_IFREG|0o644, "")
	if errno == 0 {
		errno = d.WriteAt(blob.Ino, r.wanted.bytes, 0)
	}
	if errno != 0 {
		t.Fatal(errno)
	}
}

// TestAdoptMakesDurable adopts a blob that was copied in.
func TestAdoptMakesDurable(t *testing.T) {
	r := &recording{mount: mount(t), wanted: newImage("disk", 1, small)}
	r.request = pull.Request{URL: "http://192.0.2.1/", Digest: r.wanted.digest, ImageName: r.wanted.name}
	d := emptyStore(t, r)
	r.copyIn(t, d)
	if _, err := r.open(t, d).Adopt(t.Context(), r.request); err != nil {
		t.Fatal(err)
	}
	if wrong := r.missing(d); len(wrong) > 0 {
		t.Errorf("%q", wrong)
	}
}
