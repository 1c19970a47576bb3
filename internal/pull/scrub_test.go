package pull

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

func TestPickToScrub(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, tt := range map[string]struct {
		blobs    []scrubState
		interval time.Duration
		want     string
		wait     time.Duration
	}{
		"nothing there": {nil, time.Hour, "", scrubLook},
		"what changed, then what is unknown": {
			[]scrubState{{"due", verified, ago(2 * time.Hour), false}, {"unknown", unknown, time.Time{}, false}, {"changed", changed, ago(time.Minute), false}}, time.Hour, "changed", 0,
		},
		"unknown before due": {[]scrubState{{"due", verified, ago(2 * time.Hour), false}, {"unknown", unknown, time.Time{}, false}}, time.Hour, "unknown", 0},
		"the longest ago":    {[]scrubState{{"a", verified, ago(2 * time.Hour), false}, {"b", verified, ago(3 * time.Hour), false}, {"c", verified, ago(time.Hour), false}}, time.Hour, "b", 0},
		"not before it is due": {
			[]scrubState{{"a", verified, ago(time.Hour - time.Second), false}, {"b", verified, ago(time.Minute), false}}, time.Hour, "", time.Second,
		},
		"what cannot be read, after the others": {
			[]scrubState{{"unreadable", unknown, time.Time{}, true}, {"due", verified, ago(2 * time.Hour), false}}, time.Hour, "due", 0,
		},
		"what cannot be read, again":          {[]scrubState{{"unreadable", unknown, time.Time{}, true}, {"a", verified, now, false}}, time.Hour, "unreadable", 0},
		"switched off":                        {[]scrubState{{"a", verified, ago(1000 * time.Hour), false}}, 0, "", scrubLook},
		"switched off, but never verified":    {[]scrubState{{"a", unknown, time.Time{}, false}}, 0, "a", 0},
		"switched off, but changed meanwhile": {[]scrubState{{"a", changed, ago(time.Minute), false}}, 0, "a", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, wait := pickToScrub(tt.blobs, tt.interval, now)
			if got.name != tt.want || tt.want == "" && wait != tt.wait {
				t.Errorf("%q after %s, want %q after %s", got.name, wait, tt.want, tt.wait)
			}
		})
	}
}

// scrubUntil scrubs until the condition holds, and returns what was found wrong.
func scrubUntil(t *testing.T, s *Store, options ScrubOptions, reached func(wrong []string) bool) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	var wrong []string
	options.Wrong = func(digest string, why error) {
		mu.Lock()
		defer mu.Unlock()
		wrong = append(wrong, digest)
		t.Log(why)
	}
	var scrub sync.WaitGroup
	scrub.Go(func() {
		if err := s.Scrub(ctx, options); !errors.Is(err, context.Canceled) {
			t.Errorf("the scrub ended: %v", err)
		}
	})
	for {
		mu.Lock()
		done := reached(wrong)
		mu.Unlock()
		if done {
			break
		}
		if pause(ctx, 5*time.Millisecond) != nil {
			break
		}
	}
	cancel()
	scrub.Wait()
	return wrong
}

// flip changes one bit of a blob as somebody would who may.
func flip(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		if err = os.Chmod(path, 0o600); err == nil {
			f, err = os.OpenFile(path, os.O_RDWR, 0)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], 3<<20+77)
	b[0] ^= 1
	_, errWrite := f.WriteAt(b[:], 3<<20+77)
	if err := errors.Join(err, errWrite, f.Chmod(blobMode), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestFault20BitRot(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		prepare func(t *testing.T, s *Store, blob string) *Store
		options ScrubOptions
	}{
		"of a file that changed": {func(_ *testing.T, s *Store, _ string) *Store { return s }, ScrubOptions{BytesPerSecond: 1}},
		"that no time stamp shows": {func(t *testing.T, s *Store, blob string) *Store {
			t.Helper()
			st, err := s.blobs.stat(blob)
			if err != nil {
				t.Fatal(err)
			}
			s.verified[blob] = verification{id: identityOf(st), at: time.Now().Add(-2 * time.Hour)}
			return s
		}, ScrubOptions{Interval: time.Hour}},
		"while the agent was away": {func(t *testing.T, s *Store, _ string) *Store {
			t.Helper()
			return reopenStore(t, s, OpenOptions{})
		}, ScrubOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object, healthy := pulltest.Random(1, 5<<20+4096), pulltest.Random(2, 2<<20)
			s := openAt(t, t.TempDir(), OpenOptions{})
			r := Request{URL: pulltest.New(t, object).URL, Digest: pulltest.Digest(object), ImageName: "disk"}
			mustPull(t, s, r)
			mustPull(t, s, Request{URL: pulltest.New(t, healthy).URL, ImageName: "healthy"})
			blob := strings.TrimPrefix(r.Digest, digestPrefix)
			flip(t, s.blobs.join(blob))
			s = tt.prepare(t, s, blob)
			if !s.Holds("disk", r.Digest, object.Size()) {
				t.Error("nobody can have noticed yet")
			}
			wrong := scrubUntil(t, s, tt.options, func(wrong []string) bool { return len(wrong) > 0 })
			if len(wrong) != 1 || wrong[0] != r.Digest || s.Holds("disk", r.Digest, object.Size()) {
				t.Errorf("found wrong: %q", wrong)
			}
			if got := entries(t, s.quarantine.path); len(got) != 1 || s.Totals().CorruptBlobs != 1 {
				t.Errorf("quarantine holds %q, totals %+v", got, s.Totals())
			}
			if again := mustPull(t, s, r); again.AlreadyPresent || !s.Holds("disk", r.Digest, object.Size()) {
				t.Errorf("it is not fetched again: %+v", again)
			}
			if !s.Holds("healthy", pulltest.Digest(healthy), healthy.Size()) {
				t.Error("the healthy image went too")
			}
			checkStore(t, s.root.path)
		})
	}
}

func TestScrubReadsAllAndThenRests(t *testing.T) {
	t.Parallel()
	s := openAt(t, t.TempDir(), OpenOptions{})
	var all int64
	for seed := range uint64(3) {
		object := pulltest.Random(seed, 1<<20+int(seed)*512)
		mustPull(t, s, Request{URL: pulltest.New(t, object).URL, ImageName: string(rune('a' + seed))})
		all += object.Size()
	}
	s = reopenStore(t, s, OpenOptions{})
	scrubUntil(t, s, ScrubOptions{Interval: time.Hour}, func([]string) bool { return !s.Totals().Scrubbed.IsZero() })
	if got := s.Totals(); got.ScrubbedBytes != uint64(all) || got.CorruptBlobs != 0 {
		t.Errorf("totals %+v, want %d bytes read", got, all)
	}
}

func TestScrubKeepsItsRate(t *testing.T) {
	t.Parallel()
	s := openAt(t, t.TempDir(), OpenOptions{})
	mustPull(t, s, Request{URL: pulltest.New(t, pulltest.Random(1, 3<<20)).URL})
	s = reopenStore(t, s, OpenOptions{})
	began := time.Now()
	scrubUntil(t, s, ScrubOptions{BytesPerSecond: 4 << 20}, func([]string) bool { return !s.Totals().Scrubbed.IsZero() })
	if took := time.Since(began); took < 450*time.Millisecond { // the last piece is not waited for
		t.Errorf("3 MiB at 4 MiB/s took %s", took)
	}
}
