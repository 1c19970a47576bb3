package powercut

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

const (
	// checkpointed is the size of an object with several checkpoints, each after
	// one of its units.
	checkpointed = 4<<20 + 4<<10
	unit         = 1 << 20
)

// hesitant is an object that comes only as far as the engine has gone about a
// checkpoint of what came before, so that a pull makes at least three of them,
// whatever the machine does.
type hesitant struct {
	pulltest.Content

	mu     sync.Mutex
	synced sync.Cond
	syncs  int // of the data file
	late   *time.Timer
}

func hesitate(t *testing.T, content pulltest.Content, d *Disk) *hesitant {
	t.Helper()
	h := &hesitant{Content: content}
	// Else an engine that makes no checkpoint and this object would wait for each
	// other, until the whole process is ended in the middle of its own file system.
	h.late = time.AfterFunc(30*time.Second, func() {
		t.Error("no checkpoint came within 30 s")
		h.release()
	})
	t.Cleanup(h.release)
	h.synced.L = &h.mu
	healthy := d.Rule()
	d.Fail(func(op Op) syscall.Errno {
		if op.Kind == DataSync && isPartialData(op.Path) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.syncs++
			h.synced.Broadcast()
		}
		return healthy(op)
	})
	return h
}

// ReadAt implements io.ReaderAt. A unit has gone out when something after the
// next one is asked for.
func (h *hesitant) ReadAt(p []byte, offset int64) (int, error) {
	h.mu.Lock()
	for int64(h.syncs) < offset/unit-1 {
		h.synced.Wait()
	}
	h.mu.Unlock()
	return h.Content.ReadAt(p, offset)
}

// release lets everything go: the pull has ended.
func (h *hesitant) release() {
	h.late.Stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.syncs = checkpointed
	h.synced.Broadcast()
}

// newCheckpointed is a recording of a pull with checkpoints in its middle.
func newCheckpointed(m *Mount) *recording {
	return &recording{mount: m, wanted: newImage("disk", 1, checkpointed), options: pull.OpenOptions{CheckpointBytes: unit}}
}

// TestPowerCutAtCheckpoints cuts the power after every operation of a pull that
// keeps a journal as it goes, and pulls again from what is left. It does so too
// where an operation of a checkpoint found no room: what the journal says must be
// as true as ever.
func TestPowerCutAtCheckpoints(t *testing.T) {
	m := mount(t)
	tests := []struct {
		name  string
		spare int // so many different disks are only looked at, for each that is recovered
		full  func(seen map[Kind]int, op Op) bool
	}{
		{"room for all", 2, nil},
		{"no room for the first journal", 8, func(seen map[Kind]int, op Op) bool { return op.Kind == Allocate && seen[Allocate] == 1 }},
		{"no room in the middle of the second slot", 8, func(seen map[Kind]int, op Op) bool { return op.Kind == Write && seen[Write] == 4 }},
		{"no room at the second sync", 8, func(seen map[Kind]int, op Op) bool { return op.Kind == DataSync && seen[DataSync] == 2 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newCheckpointed(m)
			d := emptyStore(t, r)
			seen, failed := map[Kind]int{}, 0
			d.Fail(func(op Op) syscall.Errno {
				if isJournal(op.Path) {
					if seen[op.Kind]++; tt.full != nil && tt.full(seen, op) {
						failed++
						return syscall.ENOSPC
					}
				}
				return 0
			})
			content := hesitate(t, pulltest.Bytes(r.wanted.bytes), d)
			r.request = r.wanted.request(pulltest.New(t, content))
			defer content.release()
			r.record(t, d)
			if seen[DataSync] < 2 || (failed > 0) != (tt.full != nil) {
				t.Fatalf("of the journal there were the operations %v, and %d failed", seen, failed)
			}
			content.release()
			number := 0
			r.cuts(t, 0, 1, func(t *testing.T, where string, left *Disk) {
				t.Helper()
				if number++; number%(tt.spare+1) == 0 {
					r.recover(t, where, left)
					if least := vouched(r.disk.Log()[:r.cut]); r.last < least {
						t.Errorf("%s: %d bytes were resumed, and checkpoints had vouched for %d", where, r.last, least)
					}
				}
			})
			t.Logf("at most %d bytes were resumed", r.resumed)
			if r.resumed < unit {
				t.Error("no checkpoint was of any use")
			}
		})
	}
}

// vouched returns the bytes that an engine with such a log has to go on from: each
// checkpoint that ended holds a unit more, until there is a blob.
func vouched(log []Op) (bytes int64) {
	entered := false
	for _, op := range log {
		switch {
		case (op.Kind == Rename || op.Kind == Link) && strings.HasPrefix(op.Path, blobsDir+"/"):
			return 0
		case op.Kind == SyncDir && strings.HasPrefix(op.Path, storeDir+"/partial/"):
			entered = true
		case op.Kind == DataSync && isJournal(op.Path) && entered:
			bytes += unit
		}
	}
	return bytes
}

// TestJournalFaults fails every operation of checkpoints. A journal that finds no
// room is missed, and the pull goes on; a disk that fails is not to be relied on.
func TestJournalFaults(t *testing.T) {
	m := mount(t)
	for name, disk := range map[string]func(*testing.T, *recording) *Disk{"journaling": emptyStore, "old file system": oldFileSystem} {
		r := newCheckpointed(m)
		var all []Op
		if _, err := r.pullWithJournal(t, disk(t, r), func(op Op) syscall.Errno {
			if op.Kind != Unlink { // after the pull
				all = append(all, op)
			}
			return 0
		}); err != nil {
			t.Fatal(err)
		}
		for number, op := range all {
			for _, errno := range append(errorsOf(op.Kind), syscall.EROFS) {
				t.Run(fmt.Sprintf("%s: %d %s %v", name, number, op.Kind, errno), func(t *testing.T) {
					r.failJournal(t, disk(t, r), number, errno)
				})
			}
		}
	}
}

// failJournal pulls with one operation on the journal failing, and then again on
// the disk that works.
func (r *recording) failJournal(t *testing.T, d *Disk, number int, errno syscall.Errno) {
	t.Helper()
	var failed Op
	seen := 0
	s, err := r.pullWithJournal(t, d, func(op Op) syscall.Errno {
		if seen++; seen != number+1 || op.Kind == Unlink { // fewer checkpoints than before
			return 0
		}
		failed = op
		return errno
	})
	tree := d.Tree()
	wrong := r.violations(tree)
	room := errno != syscall.ENOSPC && errno != syscall.EDQUOT
	switch {
	case err == nil:
		if room && failed.Kind != "" {
			wrong = append(wrong, "nobody noticed")
		}
		wrong = append(wrong, r.missing(d)...)
	case !room || !mayBe(err, errno):
		wrong = append(wrong, "the pull has failed, and it must not, or for another reason")
	}
	if len(wrong) > 0 {
		t.Fatalf("%v of %s: the pull ends with %v: %q\n%s", errno, failed, err, wrong, describe(tree))
	}
	if _, err := s.Pull(t.Context(), r.request, nil); err != nil {
		t.Fatalf("after %v of %s: a pull on the healthy disk: %v", errno, failed, err)
	}
	if wrong := r.missing(d); len(wrong) > 0 {
		t.Fatalf("after %v of %s: then a pull on the healthy disk: %q\n%s", errno, failed, wrong, describe(d.Tree()))
	}
}

// pullWithJournal pulls with checkpoints, and asks rule about the operations on
// the journal, and about the sync of its directory once it is there. The store stays open until the test ends.
func (r *recording) pullWithJournal(t *testing.T, d *Disk, rule func(Op) syscall.Errno) (*pull.Store, error) {
	t.Helper()
	s := r.open(t, d)
	healthy, entering := d.Rule(), false
	d.Fail(func(op Op) syscall.Errno {
		entered := entering && op.Kind == SyncDir // the journal's name becomes durable
		entering = !entered && (entering || isJournal(op.Path) && op.Kind == Create)
		if isJournal(op.Path) || entered {
			if errno := rule(op); errno != 0 {
				return errno
			}
		}
		return healthy(op)
	})
	content := hesitate(t, pulltest.Bytes(r.wanted.bytes), d)
	r.request = r.wanted.request(pulltest.New(t, content))
	_, err := s.Pull(t.Context(), r.request, nil)
	content.release()
	d.Fail(healthy) // no rule runs any more
	return s, err
}

// TestJournalStaysFull has no room for any journal, or for none after the first
// one, when a pull is interrupted: what is left is used as far as it is vouched
// for, or removed.
func TestJournalStaysFull(t *testing.T) {
	m := mount(t)
	for _, room := range []int{0, 2} { // writes; a checkpoint makes two
		t.Run(fmt.Sprint(room), func(t *testing.T) {
			r := newCheckpointed(m)
			d := emptyStore(t, r)
			r.request = r.wanted.request(pulltest.New(t, pulltest.Bytes(r.wanted.bytes)))
			s := r.open(t, d)
			writes := 0
			d.Fail(func(op Op) syscall.Errno {
				if isJournal(op.Path) && op.Kind == Write {
					if writes++; writes > room {
						return syscall.ENOSPC
					}
				}
				return 0
			})
			content := hesitate(t, pulltest.Bytes(r.wanted.bytes), d)
			server := pulltest.New(t, content, pulltest.Stall(3<<20+5))
			r.request.URL = server.URL
			r.interruptAfter(t, s, 3<<20)
			content.release()
			kept := len(partials(d.Tree())) > 0
			if kept != (room > 0) {
				t.Errorf("what is left: %v", partials(d.Tree()))
			}
			d.Fail(nil)
			r.request = r.wanted.request(pulltest.New(t, pulltest.Bytes(r.wanted.bytes)))
			result, err := s.Pull(t.Context(), r.request, nil)
			if err != nil || (result.ResumedBytes > 0) != kept {
				t.Errorf("%+v, %v", result, err)
			}
			if wrong := r.missing(d); len(wrong) > 0 {
				t.Errorf("%q", wrong)
			}
		})
	}
}

// TestFullDiskKeepsTheJournal runs out of room in mid-pull: the server is not
// asked again, and the next pull goes on from the last checkpoint.
func TestFullDiskKeepsTheJournal(t *testing.T) {
	m := mount(t)
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		r := newCheckpointed(m)
		d := oldFileSystem(t, r) // which did not reserve the room
		healthy := d.Rule()
		s := r.open(t, d)
		d.Fail(func(op Op) syscall.Errno {
			if op.Kind == Write && isPartialData(op.Path) && op.Offset >= 3*unit {
				return errno
			}
			return healthy(op)
		})
		content := hesitate(t, pulltest.Bytes(r.wanted.bytes), d)
		server := pulltest.New(t, content)
		r.request = r.wanted.request(server)
		_, err := s.Pull(t.Context(), r.request, nil)
		content.release()
		if !mayBe(err, errno) || len(server.Log()) > 1 {
			t.Errorf("%v: %v after %d requests", errno, err, len(server.Log()))
		}
		d.Fail(healthy)
		result, err := s.Pull(t.Context(), r.request, nil)
		if err != nil || result.ResumedBytes == 0 || result.ResumedBytes+result.TransferredBytes != checkpointed {
			t.Errorf("%v: then %+v, %v", errno, result, err)
		}
		if wrong := r.missing(d); len(wrong) > 0 {
			t.Errorf("%q", wrong)
		}
	}
}

// interruptAfter pulls until so many bytes are complete.
func (r *recording) interruptAfter(t *testing.T, s *pull.Store, bytes int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := s.Pull(ctx, r.request, func(p pull.Progress) {
		if p.BytesCompleted >= bytes {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a pull that is interrupted: %v", err)
	}
}

// isJournal reports whether a name is that of a journal.
func isJournal(name string) bool {
	return strings.HasPrefix(name, storeDir+"/partial/") && path.Base(name) == "journal"
}

// partials returns what is left of unfinished pulls.
func partials(tree map[string]File) (names []string) {
	for name := range tree {
		if strings.HasPrefix(name, storeDir+"/partial/") {
			names = append(names, name)
		}
	}
	return names
}
