package pull

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

func TestPlanEviction(t *testing.T) {
	t.Parallel()
	at := func(minutes int) time.Time { return time.Unix(int64(minutes)*60, 0) }
	all := []candidate{
		{rank: unusedBlob, name: "new", since: at(9), cost: 50, frees: 50},
		{rank: unusedBlob, name: "old", since: at(1), cost: 10, frees: 10},
		{rank: idlePartial, name: "partial", since: at(8), cost: 20, frees: 5},
		{rank: quarantined, name: "wrong", since: at(9), cost: 5, frees: 5},
		{rank: quarantined, name: "linked", since: at(0), cost: 5},
	}
	for name, tt := range map[string]struct {
		short shortage
		want  []string
	}{
		"nothing is short":                      {shortage{}, nil},
		"quarantine first":                      {shortage{budget: 7}, []string{"linked", "wrong"}},
		"what frees nothing is no help":         {shortage{free: 5}, []string{"wrong"}},
		"then partial data":                     {shortage{budget: 30}, []string{"linked", "wrong", "partial"}},
		"then the blob that is unused longest":  {shortage{free: 20}, []string{"wrong", "partial", "old"}},
		"both at once":                          {shortage{budget: 11, free: 11}, []string{"linked", "wrong", "partial", "old"}},
		"all of it":                             {shortage{free: 70}, []string{"wrong", "partial", "old", "new"}},
		"nothing goes when all would not do":    {shortage{free: 71}, nil},
		"nor when the budget's would not do it": {shortage{budget: 91}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, c := range planEviction(slices.Clone(all), tt.short) {
				got = append(got, c.name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// evicting is a store with room for two blobs of 5 MiB and not for a third. Two
// that nobody names lie there, the first one unused for longer.
type evicting struct {
	s       *Store
	digests []string // without prefix, of both and of the third
	third   Request
}

const evictSize = 5 << 20

func newEvicting(t *testing.T) evicting {
	t.Helper()
	e := evicting{s: openAt(t, t.TempDir(), OpenOptions{Limits: Limits{MaxSize: 3*evictSize - 1}})}
	clock := time.Now().Add(-3 * time.Hour)
	for seed := range uint64(3) {
		object := pulltest.Random(seed, evictSize)
		r := Request{URL: pulltest.New(t, object).URL, Digest: pulltest.Digest(object), ImageName: string(rune('a' + seed))}
		e.digests = append(e.digests, strings.TrimPrefix(r.Digest, digestPrefix))
		e.third = r
		if seed == 2 {
			break
		}
		mustPull(t, e.s, r)
		clock = clock.Add(10 * time.Minute)
		e.s.now = func() time.Time { return clock }
		if err := e.s.Unlink(r.ImageName); err != nil {
			t.Fatal(err)
		}
	}
	e.s.now = time.Now
	return e
}

func (e *evicting) left(t *testing.T) (left []string) {
	t.Helper()
	for i, name := range []string{"first", "second", "third"} {
		if e.s.Contains(digestPrefix+e.digests[i], evictSize) {
			left = append(left, name)
		}
	}
	return left
}

func TestEviction(t *testing.T) {
	t.Parallel()
	keepOpen := func(t *testing.T, e *evicting, i int, use func(*os.File) error) {
		t.Helper()
		f, err := os.Open(e.s.blobs.join(e.digests[i]))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		if err := use(f); err != nil {
			t.Fatal(err)
		}
	}
	lock := func(command int) func(*os.File) error {
		return func(f *os.File) error {
			return unix.FcntlFlock(f.Fd(), command, &unix.Flock_t{Type: unix.F_RDLCK, Start: 100, Len: 1}) // as qemu does
		}
	}
	for name, tt := range map[string]struct {
		prepare func(t *testing.T, e *evicting)
		want    []string
	}{
		"the one that is unused longest": {func(*testing.T, *evicting) {}, []string{"second", "third"}},
		"also after a restart": {func(t *testing.T, e *evicting) {
			t.Helper()
			e.s = reopenStore(t, e.s, OpenOptions{Limits: e.s.space.limits})
		}, []string{"second", "third"}},
		"no blob that has another name": {func(t *testing.T, e *evicting) {
			t.Helper()
			if err := os.Link(e.s.blobs.join(e.digests[0]), filepath.Join(e.s.root.path, "mine")); err != nil {
				t.Fatal(err)
			}
		}, []string{"first", "third"}},
		"no blob under a flock": {func(t *testing.T, e *evicting) {
			t.Helper()
			keepOpen(t, e, 0, func(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_SH) })
		}, []string{"first", "third"}},
		"no blob under an OFD lock": {func(t *testing.T, e *evicting) {
			t.Helper()
			keepOpen(t, e, 0, lock(unix.F_OFD_SETLK))
		}, []string{"first", "third"}},
		"no blob that is open": {func(t *testing.T, e *evicting) {
			t.Helper()
			if !hasLeases(t) {
				t.Skip("no leases here, so an open file without a lock is not seen")
			}
			keepOpen(t, e, 0, func(*os.File) error { return nil })
		}, []string{"first", "third"}},
		"no blob that an order names": {func(_ *testing.T, e *evicting) {
			e.s.Keep([]string{digestPrefix + e.digests[0], "nonsense"})
		}, []string{"first", "third"}},
		"no blob that a pull is at": {func(t *testing.T, e *evicting) {
			t.Helper()
			t.Cleanup(e.s.keys.tryLock(e.digests[0]))
		}, []string{"first", "third"}},
		"no blob that is named again": {func(t *testing.T, e *evicting) {
			t.Helper()
			symlink(t, linkPrefix+e.digests[0], e.s.images.join("by-hand"))
		}, []string{"first", "third"}},
		"none within the hour": {func(t *testing.T, e *evicting) {
			t.Helper()
			e.s.now = func() time.Time { return time.Now().Add(-3*time.Hour + 69*time.Minute) }
		}, []string{"first", "second"}},
		"a note from the future counts from now": {func(t *testing.T, e *evicting) {
			t.Helper()
			tomorrow := time.Now().Add(24 * time.Hour)
			if err := os.Chtimes(e.s.unused.join(e.digests[0]), tomorrow, tomorrow); err != nil {
				t.Fatal(err)
			}
			e.s = reopenStore(t, e.s, OpenOptions{Limits: e.s.space.limits})
		}, []string{"first", "third"}},
		"no blob before the quarantine": {func(t *testing.T, e *evicting) {
			t.Helper()
			if err := e.s.setAside(e.digests[1], "test"); err != ErrNotPresent { //nolint:errorlint // what it returns
				t.Fatal(err)
			}
		}, []string{"first", "third"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEvicting(t)
			tt.prepare(t, &e)
			_, err := e.s.Pull(t.Context(), e.third, nil)
			if fits := slices.Contains(tt.want, "third"); fits != (err == nil) {
				t.Errorf("the third: %v", err)
			} else if !fits {
				wantReason(t, err, InsufficientSpace)
				t.Log(err)
			}
			if diff := cmp.Diff(tt.want, e.left(t)); diff != "" {
				t.Error(diff)
			}
			if used, err := e.s.used(); err != nil || used > e.s.space.limits.MaxSize {
				t.Errorf("the store takes %d bytes, %v", used, err)
			}
			checkStore(t, e.s.root.path)
		})
	}
}

// TestEvictionThatShowsLate is on a filesystem that frees nothing at once, as btrfs
// and ZFS do: what was evicted is enough, whatever the filesystem says by now.
func TestEvictionThatShowsLate(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		shows time.Duration // after the eviction
		want  Reason
	}{
		"at once":           {0, ""},
		"after two seconds": {2 * time.Second, ""},
		"never":             {time.Hour, InsufficientSpace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEvicting(t)
			now := time.Now()
			e.s.now = func() time.Time { return now }
			e.s.space.limits = Limits{}
			f, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				e.s.space.measure = func() (capacity, available int64, err error) {
					if len(e.left(t)) < 2 && time.Since(began) >= tt.shows {
						return 1 << 40, evictSize, nil
					}
					return 1 << 40, 0, nil
				}
				err = e.s.makeRoom(t.Context(), &reservation{space: e.s.space, file: f}, evictSize)
			})
			wantReason(t, err, tt.want)
			if diff := cmp.Diff([]string{"second"}, e.left(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestBudgetCoversPullsThatRun lets two pulls at the last of the room.
func TestBudgetCoversPullsThatRun(t *testing.T) {
	t.Parallel()
	s := openAt(t, t.TempDir(), OpenOptions{Limits: Limits{MaxSize: 2*evictSize - 1}})
	results := make(chan error)
	for seed := range uint64(2) {
		object := pulltest.Random(seed, evictSize)
		request := Request{URL: pulltest.New(t, object).URL, MaxBytesPerSecond: 10 << 20}
		go func() {
			_, err := s.Pull(t.Context(), request, nil)
			results <- err
		}()
	}
	first, second := <-results, <-results
	if (first == nil) == (second == nil) {
		t.Fatalf("%v and %v: one of them has room", first, second)
	}
	for _, err := range []error{first, second} {
		if err != nil {
			wantReason(t, err, InsufficientSpace)
		}
	}
}

func TestMinimumFree(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limits Limits
		want   int64
	}{
		{Limits{}, 0},
		{Limits{MinFree: 10}, 10},
		{Limits{MinFreePercent: 15}, 150},
		{Limits{MinFree: 200, MinFreePercent: 15}, 200},
	} {
		if got := tt.limits.keepFree(1000); got != tt.want {
			t.Errorf("%+v keeps %d of 1000 bytes free, want %d", tt.limits, got, tt.want)
		}
	}
	object, other := pulltest.Random(1, 1<<20), pulltest.Random(2, resumeSize)
	s := openAt(t, t.TempDir(), OpenOptions{})
	idle := Request{URL: "ORIGIN/other", Digest: pulltest.Digest(other)}
	interrupt(t, s, other, idle)
	s = reopenStore(t, s, OpenOptions{Limits: Limits{MinFreePercent: 99.999}})
	_, err := s.Pull(t.Context(), Request{URL: pulltest.New(t, object).URL}, nil)
	wantReason(t, err, InsufficientSpace)
	if !strings.Contains(err.Error(), "stay free") {
		t.Error(err)
	}
	if _, _, err := s.lookAtPartial(workKey(&job{digest: idle.Digest[len(digestPrefix):]})); err != nil {
		t.Errorf("an unfinished pull went although that did not make room enough: %v", err)
	}
}

// TestKilledInEviction kills a process at each step that takes something away.
func TestKilledInEviction(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"blob removed", "data file made", "blob let go", "blob set aside"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			e := newEvicting(t)
			limits, path := e.s.space.limits, e.s.root.path
			switch step {
			case "blob let go": // the third replaces the second under its name
				if _, err := e.s.Adopt(t.Context(), Request{URL: e.third.URL, Digest: digestPrefix + e.digests[1], ImageName: e.third.ImageName}); err != nil {
					t.Fatal(err)
				}
			case "blob set aside":
				plant(t, e.s, e.third.Digest, []byte("wrong"), blobMode)
			}
			if err := e.s.Close(); err != nil {
				t.Fatal(err)
			}
			kill(t, killed{Store: path, Request: e.third, At: killPoint{step, 1}, Limits: limits})
			checkBlobs(t, path)
			e.s = openAt(t, path, OpenOptions{Limits: limits})
			mustPull(t, e.s, e.third)
			checkStore(t, path)
			if diff := cmp.Diff([]string{"second", "third"}, e.left(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
