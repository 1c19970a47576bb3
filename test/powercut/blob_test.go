package powercut

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestFault06UnreadableBlob has a published blob that the disk does not return
// any more. Whoever reads it puts it away, and it is fetched again.
func TestFault06UnreadableBlob(t *testing.T) {
	m := mount(t)
	for name, notice := range map[string]func(t *testing.T, s *pull.Store, r *recording){
		"the scrub reads it": scrubFinds,
		"an adoption reads it": func(t *testing.T, s *pull.Store, r *recording) {
			t.Helper()
			if _, err := s.Adopt(t.Context(), r.request); !errors.Is(err, pull.ErrNotPresent) {
				t.Errorf("it was adopted: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recording{mount: m, wanted: newImage("disk", 1, 600<<10+1<<10)}
			r.request = r.wanted.request(pulltest.New(t, pulltest.Bytes(r.wanted.bytes)))
			d := NewDisk()
			if _, _, err := r.pullOnce(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			s := r.open(t, d)
			size := int64(len(r.wanted.bytes))
			if !s.Holds("disk", r.wanted.digest, size) {
				t.Fatal("it is not there")
			}
			var bad atomic.Bool
			bad.Store(true)
			d.Fail(func(op Op) syscall.Errno {
				if bad.Load() && op.Kind == Read && op.Path == r.wanted.blobPath() && op.Offset+op.Size > size/2 {
					return syscall.EIO
				}
				return 0
			})
			notice(t, s, r)
			bad.Store(false)
			if s.Holds("disk", r.wanted.digest, size) {
				t.Error("it counts still")
			}
			result, err := s.Pull(t.Context(), r.request, nil)
			if err != nil || result.AlreadyPresent {
				t.Fatalf("it is not fetched again: %+v, %v", result, err)
			}
			if wrong := r.missing(d); len(wrong) > 0 {
				t.Errorf("%q\n%s", wrong, describe(d.Tree()))
			}
		})
	}
}

// scrubFinds scrubs until the blob is found wrong.
func scrubFinds(t *testing.T, s *pull.Store, r *recording) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var scrub sync.WaitGroup
	scrub.Go(func() {
		err := s.Scrub(ctx, pull.ScrubOptions{Wrong: func(digest string, why error) {
			if digest != r.wanted.digest || !errors.Is(why, syscall.EIO) {
				t.Errorf("%s: %v", digest, why)
			}
			cancel()
		}})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the scrub ended: %v", err)
		}
	})
	scrub.Wait()
}

// TestBlobThatCannotBeSynced has a blob that a copying program left in the page
// cache only, and a disk that fails to write it. That it reads as it should, and that
// a later sync succeeds, means nothing.
func TestBlobThatCannotBeSynced(t *testing.T) {
	m := mount(t)
	pulls := func(t *testing.T, s *pull.Store, r *recording) {
		t.Helper()
		if _, err := s.Pull(t.Context(), r.request, nil); !mayBe(err, syscall.EIO) {
			t.Errorf("the first pull: %v", err)
		}
	}
	for name, tt := range map[string]struct {
		notice func(t *testing.T, s *pull.Store, r *recording)
		fails  []Kind // of the operations on the blob, each once
	}{
		"the scrub syncs it":                 {scrubFinds, []Kind{Sync}},
		"a pull syncs it":                    {pulls, []Kind{Sync}},
		"a pull syncs it and cannot move it": {pulls, []Kind{Sync, Rename}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recording{mount: m, wanted: newImage("disk", 1, small)}
			r.request = r.wanted.request(pulltest.New(t, pulltest.Bytes(r.wanted.bytes)))
			d := emptyStore(t, r)
			r.copyIn(t, d)
			s := r.open(t, d)
			left := slices.Clone(tt.fails)
			d.Fail(func(op Op) syscall.Errno {
				blob := op.Path == r.wanted.blobPath() || op.Old == r.wanted.blobPath()
				if i := slices.Index(left, op.Kind); i >= 0 && blob {
					left = slices.Delete(left, i, i+1)
					return syscall.EIO
				}
				return 0
			})
			tt.notice(t, s, r)
			if _, err := s.Pull(t.Context(), r.request, nil); err != nil {
				t.Fatal(err)
			}
			if wrong := r.missing(d); len(wrong) > 0 {
				t.Errorf("%q\n%s", wrong, describe(d.Tree()))
			}
		})
	}
}

// TestMediumOfBlobThatIsThere has a blob that this process verified, and whose medium
// goes bad afterwards: only who asks for the medium is told.
func TestMediumOfBlobThatIsThere(t *testing.T) {
	r := &recording{mount: mount(t), wanted: newImage("disk", 1, 3<<20+512)}
	r.request = r.wanted.request(pulltest.New(t, pulltest.Bytes(r.wanted.bytes)))
	d := emptyStore(t, r)
	s := r.open(t, d)
	if _, err := s.Pull(t.Context(), r.request, nil); err != nil {
		t.Fatal(err)
	}
	var bad atomic.Bool
	d.Fail(func(op Op) syscall.Errno {
		if bad.Load() && op.Kind == Read && op.Path == r.wanted.blobPath() && op.Offset <= 1<<20 && op.Offset+op.Size > 1<<20 {
			return syscall.EIO
		}
		return 0
	})
	for _, tt := range []struct {
		verify  pull.Verify
		bad     bool
		present bool
	}{
		{pull.VerifyMedia, false, true},
		{pull.VerifyCache, true, true},
		{pull.VerifyMedia, true, false},
	} {
		bad.Store(tt.bad)
		r.request.Verify = tt.verify
		result, err := s.Pull(t.Context(), r.request, nil)
		if tt.present && (err != nil || !result.AlreadyPresent) {
			t.Errorf("verify=%s, bad %t: %+v, %v", tt.verify, tt.bad, result, err)
		}
		if !tt.present && result.AlreadyPresent {
			t.Errorf("verify=%s: a blob that the medium does not return was taken for present", tt.verify)
		}
	}
	bad.Store(false)
	if _, err := s.Pull(t.Context(), r.request, nil); err != nil {
		t.Fatal(err)
	}
	if wrong := r.missing(d); len(wrong) > 0 {
		t.Errorf("%q\n%s", wrong, describe(d.Tree()))
	}
}
