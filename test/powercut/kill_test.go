package powercut

import (
	"syscall"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestKillThenPowerCut ends the process before every operation of a pull, lets a
// new process pull, and then cuts the power: what the first one left unsynced in
// memory looks to the second as if it were on disk.
func TestKillThenPowerCut(t *testing.T) {
	m := mount(t)
	tests := []struct {
		name string
		disk func(*testing.T, *recording) *Disk
	}{
		{"new store", emptyDir},
		{"old file system", oldFileSystem},
		{"image had another blob", olderImage},
		{"blob was wrong", rottenBlob},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recording{mount: m, wanted: newImage("disk", 1, small)}
			server := pulltest.New(t, pulltest.Bytes(r.wanted.bytes))
			r.request = r.wanted.request(server)
			r.record(t, tt.disk(t, r))
			for at := range r.disk.Log() {
				d := tt.disk(t, r)
				healthy := d.Rule()
				d.Fail(deadAfter(d, at))
				_, _, _ = r.pullOnce(t.Context(), d) // whatever it says, nobody hears it
				d.Fail(healthy)
				second := *r
				second.record(t, d)
				second.cuts(t, at, 1, nil)
			}
		})
	}
}

// deadAfter lets a process make so many operations, and no more: what it tries
// after that, which is to clean up, never happened.
func deadAfter(d *Disk, operations int) func(Op) syscall.Errno {
	healthy := d.Rule()
	return func(op Op) syscall.Errno {
		if operations--; operations < 0 {
			return syscall.EIO
		}
		return healthy(op)
	}
}

// emptyDir is a directory for a store.
func emptyDir(t *testing.T, r *recording) *Disk {
	t.Helper()
	d := NewDisk()
	at := RootIno
	for _, name := range []string{"var", "store"} {
		a, errno := d.Make(at, name, 0o040755, "")
		if errno != 0 {
			t.Fatal(errno)
		}
		at = a.Ino
	}
	return settled(d)
}
