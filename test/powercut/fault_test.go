package powercut

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestFaults fails every single operation of a pull, reads included, with every
// error that a disk may give for it, once.
func TestFaults(t *testing.T) {
	m := mount(t)
	tests := []struct {
		name string
		disk func(*testing.T, *recording) *Disk
	}{
		{"empty store", emptyStore},
		{"old file system", oldFileSystem},
		{"blob was wrong", rottenBlob},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &recording{mount: m, wanted: newImage("disk", 1, 600<<10+1<<10)}
			server := pulltest.New(t, pulltest.Bytes(r.wanted.bytes))
			r.request = r.wanted.request(server)
			all := r.operations(t, tt.disk(t, r))
			for number, op := range all {
				for _, errno := range errorsOf(op.Kind) {
					t.Run(fmt.Sprintf("%d %s %v", number, op.Kind, errno), func(t *testing.T) {
						r.fail(t, tt.disk(t, r), number, errno)
					})
				}
			}
		})
	}
}

// errorsOf returns how an operation can fail.
func errorsOf(kind Kind) []syscall.Errno {
	switch kind {
	case Create, Mkdir, Symlink, Link, Rename, Write, Allocate, Truncate:
		return []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT}
	case Sync, DataSync, SyncDir:
		return []syscall.Errno{syscall.EIO, syscall.ENOSPC}
	case Unlink, Rmdir, Chmod, Read, Stat:
		return []syscall.Errno{syscall.EIO}
	}
	return nil
}

// operations returns every operation that a pull asks for in an opened store.
func (r *recording) operations(t *testing.T, d *Disk) (all []Op) {
	t.Helper()
	s := r.open(t, d)
	healthy := d.Rule()
	d.Fail(func(op Op) syscall.Errno {
		all = append(all, op)
		return healthy(op)
	})
	if _, err := s.Pull(t.Context(), r.request, nil); err != nil {
		t.Fatal(err)
	}
	d.Fail(healthy)
	return all
}

// open opens the store of a disk until the test ends.
func (r *recording) open(t *testing.T, d *Disk) *pull.Store {
	t.Helper()
	s, err := pull.Open(t.Context(), filepath.Join(r.mount.Insert(d), storeDir), r.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		r.mount.Eject(d)
	})
	return s
}

// fail pulls with one operation failing, and then again on the disk that works.
func (r *recording) fail(t *testing.T, d *Disk, number int, errno syscall.Errno) {
	t.Helper()
	s := r.open(t, d)
	healthy := d.Rule()
	var failed Op
	seen := 0
	d.Fail(func(op Op) syscall.Errno {
		if seen++; seen != number+1 {
			return healthy(op)
		}
		failed = op
		return errno
	})
	_, err := s.Pull(t.Context(), r.request, nil)
	d.Fail(healthy)
	tree := d.Tree()
	wrong := r.violations(tree)
	switch {
	case err == nil:
		// What failed was not needed; it must not have been.
		wrong = append(wrong, r.missing(d)...)
	case !mayBe(err, errno):
		wrong = append(wrong, "the reason is another one")
	}
	if len(wrong) > 0 {
		t.Fatalf("%v of %s: the pull ends with %v: %q\n%s", errno, failed, err, wrong, describe(tree))
	}
	t.Logf("%v of %s: the pull ends with: %v", errno, failed, err)
	if _, err := s.Pull(t.Context(), r.request, nil); err != nil {
		t.Fatalf("after %v of %s: a pull on the healthy disk: %v", errno, failed, err)
	}
	if wrong := r.missing(d); len(wrong) > 0 {
		t.Fatalf("after %v of %s: then a pull on the healthy disk: %q\n%s", errno, failed, wrong, describe(d.Tree()))
	}
}

// missing returns what is not safe on a disk although a pull said so, power cut
// or not.
func (r *recording) missing(d *Disk) []string {
	return append(r.violations(d.Tree()), append(r.wanted.missing(d.Tree()), r.again(d)...)...)
}

// mayBe reports whether a pull may end with err where the disk said errno.
func mayBe(err error, errno syscall.Errno) bool {
	e, ok := errors.AsType[*pull.Error](err)
	full := errno == syscall.ENOSPC || errno == syscall.EDQUOT
	return ok && (full && e.Kind == pull.InsufficientSpace || !full && e.Kind == pull.StorageError)
}

// TestDiskStaysFull has room for so much and no more, and then for all.
func TestDiskStaysFull(t *testing.T) {
	m := mount(t)
	for _, room := range []int64{0, 1, sectorSize, 256 << 10, 256<<10 + 1, 600 << 10} {
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			r := &recording{mount: m, wanted: newImage("disk", 1, 600<<10+1<<10)}
			server := pulltest.New(t, pulltest.Bytes(r.wanted.bytes))
			r.request = r.wanted.request(server)
			d := oldFileSystem(t, r)
			healthy := d.Rule()
			s := r.open(t, d)
			d.Fail(func(op Op) syscall.Errno {
				if op.Kind == Write && op.Offset+op.Size > room {
					return syscall.ENOSPC
				}
				return healthy(op)
			})
			for range 2 {
				_, err := s.Pull(t.Context(), r.request, nil)
				wrong := append(r.violations(d.Tree()), blobsOf(d.Tree())...)
				if !mayBe(err, syscall.ENOSPC) || len(wrong) > 0 {
					t.Fatalf("a full disk: %v, %q\n%s", err, wrong, describe(d.Tree()))
				}
			}
			d.Fail(healthy)
			if _, err := s.Pull(t.Context(), r.request, nil); err != nil {
				t.Fatal(err)
			}
			if wrong := r.missing(d); len(wrong) > 0 {
				t.Fatalf("after room was made: %q", wrong)
			}
		})
	}
}

// TestFullAtTheEnd has a disk that says only when all is written that it has no room.
// What it did not write then is lost, although a later sync succeeds.
func TestFullAtTheEnd(t *testing.T) {
	m := mount(t)
	for name, tt := range map[string]struct {
		kind   Kind // of the operation that fails, once the data is sealed
		verify pull.Verify
	}{
		"at the last sync":           {Sync, pull.VerifyCache},
		"when the data is read back": {Read, pull.VerifyMedia},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recording{mount: m, wanted: newImage("disk", 1, 3<<20+512)}
			r.request = r.wanted.request(pulltest.New(t, pulltest.Bytes(r.wanted.bytes)))
			r.request.Verify = tt.verify
			d := emptyStore(t, r)
			s := r.open(t, d)
			sealed := false
			d.Fail(func(op Op) syscall.Errno {
				if !isPartialData(op.Path) {
					return 0
				}
				if sealed = sealed || op.Kind == Sync; sealed && op.Kind == tt.kind {
					return syscall.ENOSPC
				}
				return 0
			})
			if _, err := s.Pull(t.Context(), r.request, nil); !mayBe(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			d.Fail(nil)
			result, err := s.Pull(t.Context(), r.request, nil)
			if err != nil || result.ResumedBytes != 0 {
				t.Errorf("after room was made: %+v, %v", result, err)
			}
			if wrong := r.missing(d); len(wrong) > 0 {
				t.Errorf("after room was made: %q\n%s", wrong, describe(d.Tree()))
			}
		})
	}
}

// TestPullEndsWithTheDisk has a disk that cannot return what was written: the pull
// does not wait for a server that would have more to send.
func TestPullEndsWithTheDisk(t *testing.T) {
	m := mount(t)
	for name, behaviours := range map[string][]pulltest.Behaviour{
		"ranges": {pulltest.Stall(2 << 20)},
		"stream": {pulltest.NoRanges, pulltest.Stall(2 << 20)},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r := &recording{mount: m, wanted: newImage("disk", 1, 3<<20)}
			r.request = r.wanted.request(pulltest.New(t, pulltest.Bytes(r.wanted.bytes), behaviours...))
			r.request.StallTimeout = time.Hour
			d := emptyStore(t, r)
			s := r.open(t, d)
			d.Fail(func(op Op) syscall.Errno {
				if op.Kind == Read && isPartialData(op.Path) {
					return syscall.EIO
				}
				return 0
			})
			_, err := s.Pull(ctx, r.request, nil)
			if !mayBe(err, syscall.EIO) || ctx.Err() != nil {
				t.Errorf("%v, %v", err, ctx.Err())
			}
		})
	}
}

func blobsOf(tree map[string]File) (blobs []string) {
	for name := range tree {
		if path.Dir(name) == blobsDir {
			blobs = append(blobs, strings.TrimPrefix(name, storeDir)+" is there")
		}
	}
	return blobs
}
