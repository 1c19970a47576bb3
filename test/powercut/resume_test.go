package powercut

import (
	"context"
	"errors"
	"math"
	"path"
	"syscall"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestPowerCutAroundInterruption stops a pull twice, so that the second one has
// something to go on with and something new to keep, cuts the power after every
// operation of the second, and pulls from what is left. Whatever the store has
// kept of unfinished pulls, it may trust only what is right.
func TestPowerCutAroundInterruption(t *testing.T) {
	m := mount(t)
	r := &recording{mount: m, wanted: newImage("disk", 1, 6<<20+4<<10), done: math.MaxInt}
	server := pulltest.New(t, pulltest.Bytes(r.wanted.bytes))
	r.request = r.wanted.request(server)
	d := emptyStore(t, r)
	r.interrupt(t, d, 2<<20)
	r.disk = settled(d)
	r.interrupt(t, r.disk, 5<<20/2)
	kept := false // a store without a memory of what it wrote has nothing to resume
	r.cuts(t, 0, 1, func(t *testing.T, where string, left *Disk) {
		t.Helper()
		for name := range left.Tree() {
			kept = kept || path.Base(name) == "journal"
		}
		r.recover(t, where, left)
	})
	t.Logf("at most %d bytes were resumed", r.resumed)
	if kept && r.resumed == 0 {
		t.Error("there are journals, and none was of any use")
	}
}

// interrupt pulls until so many bytes of data are written.
func (r *recording) interrupt(t *testing.T, d *Disk, bytes int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d.Fail(func(op Op) syscall.Errno {
		if op.Kind == Write && op.Size >= 4*blockSize {
			if bytes -= op.Size; bytes <= 0 {
				cancel()
			}
		}
		return 0
	})
	_, _, err := r.pullOnce(ctx, d)
	d.Fail(nil)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a pull that is interrupted: %v", err)
	}
}

// TestOpenOnAFaultyDisk fails every operation of making a store, once.
func TestOpenOnAFaultyDisk(t *testing.T) {
	m := mount(t)
	var all []Op
	d := NewDisk()
	d.Fail(func(op Op) syscall.Errno { all = append(all, op); return 0 })
	open(t, m, d)
	for number, op := range all {
		for _, errno := range errorsOf(op.Kind) {
			d := NewDisk()
			seen := 0
			d.Fail(func(Op) syscall.Errno {
				if seen++; seen == number+1 {
					return errno
				}
				return 0
			})
			dir := m.Insert(d)
			s, err := pull.Open(t.Context(), path.Join(dir, storeDir), pull.OpenOptions{})
			if err == nil || !mayBe(err, errno) {
				t.Errorf("%v of %s: open: %v", errno, op, err)
			}
			if err == nil {
				_ = s.Close()
			}
			d.Fail(nil)
			open(t, m, d)
			m.Eject(d)
		}
	}
}
