package pull

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestUnitMap(t *testing.T) {
	t.Parallel()
	const total = 130*unitSize + 5
	m := newUnitMap(total)
	for unit := 130; unit > 0; unit-- {
		size := int64(unitSize)
		if unit == 130 {
			size = 5
		}
		if err := m.commit(unit, size, uint32(unit)); err != nil {
			t.Fatal(err)
		}
		if m.frontier != 0 || m.complete() {
			t.Fatalf("after unit %d: frontier %d", unit, m.frontier)
		}
	}
	if err := m.commit(0, unitSize, 7); err != nil {
		t.Fatal(err)
	}
	if !m.complete() || m.frontierBytes() != total || m.committed != total || m.crcs[0] != 7 || m.crcs[129] != 129 {
		t.Errorf("complete map: frontier %d, %d bytes committed", m.frontierBytes(), m.committed)
	}
	if m.commit(5, unitSize, 1) == nil {
		t.Error("a unit was committed twice")
	}
	if m.commit(131, unitSize, 1) == nil {
		t.Error("a unit beyond the object was committed")
	}
}

func TestUnitMapOfUnknownSize(t *testing.T) {
	t.Parallel()
	m := newUnitMap(-1)
	for unit := range 64 {
		if err := m.commit(unit, unitSize, 0); err != nil {
			t.Fatal(err)
		}
		if m.frontierBytes() != int64(unit+1)*unitSize || m.complete() {
			t.Fatalf("after unit %d: frontier %d", unit, m.frontierBytes())
		}
	}
	m.finish(64*unitSize + 1)
	if m.complete() {
		t.Error("complete without the last unit")
	}
	if err := m.commit(64, 1, 0); err != nil || !m.complete() || m.frontierBytes() != 64*unitSize+1 {
		t.Errorf("after the last unit: %v, frontier %d", err, m.frontierBytes())
	}
}

func TestLeaseSize(t *testing.T) {
	t.Parallel()
	const far = 1 << 40
	tests := []struct {
		name      string
		rate      float64
		firstByte time.Duration
		left      int64
		want      int64
	}{
		{"unknown rate", 0, 0, far, leaseMin},
		{"a tenth of a second of work", 200 << 20, time.Millisecond, far, 20 << 20},
		{"a long round trip", 20 << 20, 100 * time.Millisecond, far, 80 << 20},
		{"slow", 1000, 0, far, leaseMin},
		{"very fast", 10 << 30, 0, far, leaseMax},
		{"whole units", 200<<20 + 50, 0, far, 20 << 20},
		{"a share of what is left", 1 << 30, 0, 160 << 20, 10 << 20},
		{"the end", 1 << 30, 0, 100, leaseMin},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := leaseSize(tt.rate, tt.firstByte, tt.left, 8); got != tt.want {
				t.Errorf("leaseSize = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestSchedulerHandsOutInFileOrderWithinTheWindow(t *testing.T) {
	t.Parallel()
	const half = windowMin / 2
	s := newScheduler(2 << 30)
	size := func(int64) int64 { return half }
	a, b := s.due(size), s.due(size)
	if a.next != 0 || b.next != half || a.end != b.next {
		t.Fatalf("leases %v, %v", a, b)
	}
	if l := s.due(size); l != nil {
		t.Fatalf("a lease at %d, beyond the window", l.next)
	}
	a.next += 5*unitSize + 7
	b.next += 3
	s.release(b)
	s.release(a)
	if l := s.due(size); l != a || l.next != 5*unitSize+7 {
		t.Fatalf("returned lease at %d, want the first, from its last byte", l.next)
	}
	if l := s.due(size); l != b {
		t.Fatalf("lease at %d, want the one given back", l.next)
	}
	s.setHashed(unitSize)
	if l := s.due(size); l == nil || l.next != 2*half {
		t.Fatal("no lease although the hasher moved")
	}
}

func TestWindowFollowsTheHasher(t *testing.T) {
	t.Parallel()
	s := newScheduler(4 << 30)
	all := func(int64) int64 { return unitSize }
	leased := func() int64 {
		for s.due(all) != nil {
		}
		return s.unleased
	}
	steps := []struct {
		name  string
		bound bool
		want  int64
	}{
		{"the network is the limit", false, 2 * windowMin},
		{"still", false, 4 * windowMin},
		{"as far as it goes", false, windowMax},
		{"the node is the limit, and what is leased stays", true, windowMax},
	}
	if got := leased(); got != windowMin {
		t.Fatalf("%d MiB are leased at first, want %d", got>>20, windowMin>>20)
	}
	for _, step := range steps {
		s.tick(8, step.bound, time.Now())
		if got := leased(); got != step.want {
			t.Errorf("%s: %d MiB are leased, want %d", step.name, got>>20, step.want>>20)
		}
	}
	s.setHashed(windowMax)
	if got := leased(); got != windowMax+windowMin {
		t.Errorf("%d MiB are leased when the hasher has caught up, want %d", got>>20, (windowMax+windowMin)>>20)
	}
	s.tick(8, false, time.Now())
	s.tick(8, false, time.Now())
	if s.window != 2*windowMin {
		t.Errorf("a window of %d MiB, want growth only where workers are short of leases", s.window>>20)
	}
}

// TestResumeDoesNotWaitForTheHasher is about the bytes of an earlier pull, which
// take the hasher a while.
func TestResumeDoesNotWaitForTheHasher(t *testing.T) {
	t.Parallel()
	s := newScheduler(4 << 30)
	s.untrusted, s.untrustedUnits = []uint64{1}, 1
	s.unleased = windowMin
	if l := s.due(func(int64) int64 { return unitSize }); l == nil {
		t.Error("no lease while the hasher reads again")
	}
}

func TestLeaseRollback(t *testing.T) {
	t.Parallel()
	l := &lease{next: 9*unitSize + 5, end: 20 * unitSize, crc: 1, held: []heldUnit{{unit: 7}, {unit: 8}}}
	if lost := newScheduler(-1).rollback(l); lost != 2*unitSize+5 {
		t.Errorf("%d bytes are lost", lost)
	}
	if l.next != 7*unitSize || l.crc != 0 || len(l.held) != 0 {
		t.Errorf("rolled back to %d, %v held", l.next, l.held)
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	tests := []struct {
		attempt int
		wish    time.Duration
		random  float64
		want    time.Duration
	}{
		{1, 0, 0, 0},
		{0, 0, 0.5, 125 * time.Millisecond}, // a restart that no stream began
		{1, 0, 0.5, 125 * time.Millisecond},
		{3, 0, 0.5, 500 * time.Millisecond},
		{60, 0, 0.5, 4 * time.Second},
		{1, 5 * time.Second, 0, 5 * time.Second},
		{1, time.Hour, 0, 30 * time.Second},
	}
	for _, tt := range tests {
		if got := backoff(tt.attempt, tt.wish, tt.random); got != tt.want {
			t.Errorf("backoff(%d, %s, %g) = %s, want %s", tt.attempt, tt.wish, tt.random, got, tt.want)
		}
	}
}

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		value string
		want  time.Duration
	}{
		{"", 0}, {"0", 0}, {"120", 2 * time.Minute}, {"-5", 0}, {"1.5", 0}, {"soon", 0},
		{"99999999999999999999999", 24 * time.Hour}, {"999999999", 24 * time.Hour},
		{"Fri, 01 May 2026 12:00:30 GMT", 30 * time.Second},
		{"Fri, 01 May 2026 11:00:00 GMT", 0},
	}
	for _, tt := range tests {
		if got := parseRetryAfter(http.Header{"Retry-After": {tt.value}}, now); got != tt.want {
			t.Errorf("parseRetryAfter(%q) = %s, want %s", tt.value, got, tt.want)
		}
	}
}

// FuzzParseRetryAfter checks that a wish is between nothing and a day, that a
// number of seconds means what it says, and that more seconds are never a shorter wait.
func FuzzParseRetryAfter(f *testing.F) {
	for _, seed := range []string{"0", "7", "-1", "86401", "99999999999999999999", "1.5", " 5 ", "Fri, 01 May 2026 12:00:00 GMT", "Friday, 01-May-26 12:00:00 GMT", "Fri May  1 12:00:00 2026"} {
		f.Add(seed, int64(1_777_636_000))
	}
	const day = 24 * time.Hour
	f.Fuzz(func(t *testing.T, value string, unix int64) {
		now := time.Unix(unix%(1<<40), 0)
		wish := func(value string) time.Duration { return parseRetryAfter(http.Header{"Retry-After": {value}}, now) }
		got := wish(value)
		if got < 0 || got > day {
			t.Fatalf("parseRetryAfter(%q) = %s", value, got)
		}
		if seconds, err := strconv.ParseUint(value, 10, 63); err == nil {
			if want := time.Duration(min(seconds, uint64(day/time.Second))) * time.Second; got != want {
				t.Fatalf("parseRetryAfter(%q) = %s, want %s", value, got, want)
			}
			if longer := wish(value + "0"); longer < got {
				t.Fatalf("parseRetryAfter(%q) = %s, and of ten times that %s", value, got, longer)
			}
		}
		if wait := backoff(1, got, 0); wait > retryAfterCap {
			t.Fatalf("Retry-After %q makes a connection wait %s", value, wait)
		}
	})
}

func TestPauseEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := pause(t.Context(), time.Hour); err != nil || time.Since(began) != time.Hour {
			t.Errorf("pause = %v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began = time.Now()
		if err := pause(ctx, time.Hour); err == nil || time.Since(began) != time.Minute {
			t.Errorf("pause = %v after %s, with a context of a minute", err, time.Since(began))
		}
	})
}

func TestStallDetector(t *testing.T) {
	t.Parallel()
	start := time.Unix(0, 0)
	type step struct {
		second   int
		received int64
		stalled  bool
	}
	tests := []struct {
		name  string
		limit int64
		steps []step
	}{
		{"nothing comes", 0, []step{{59, 0, false}, {60, 0, true}}},
		{"a byte a second", 0, []step{{30, 30, false}, {60, 60, true}}},
		{"just enough", 0, []step{{59, 60 << 10, false}, {118, 60 << 10, false}, {119, 60 << 10, true}}},
		{"slow by its own limit", 100, []step{{59, 3000, false}, {118, 6000, false}, {178, 6001, true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newStallDetector(time.Minute, tt.limit, start)
			for _, s := range tt.steps {
				if got := d.stalled(start.Add(time.Duration(s.second)*time.Second), s.received); got != s.stalled {
					t.Fatalf("at %d s with %d bytes: stalled %t", s.second, s.received, got)
				}
			}
		})
	}
}

func TestValidator(t *testing.T) {
	t.Parallel()
	const old, date = "Fri, 01 May 2026 11:00:00 GMT", "Fri, 01 May 2026 12:00:00 GMT"
	tests := []struct {
		name   string
		header http.Header
		want   validator
	}{
		{"none", http.Header{}, validator{}},
		{"strong", http.Header{"Etag": {`"a"`}}, validator{etag: `"a"`}},
		{"weak", http.Header{"Etag": {`W/"a"`}}, validator{}},
		{"bare", http.Header{"Etag": {`a`}}, validator{}},
		{"quote inside", http.Header{"Etag": {`"a"b"`}}, validator{}},
		{"two", http.Header{"Etag": {`"a"`, `"b"`}}, validator{}},
		{"old date", http.Header{"Last-Modified": {old}, "Date": {date}}, validator{lastModified: old}},
		{"fresh date", http.Header{"Last-Modified": {date}, "Date": {date}}, validator{}},
		{"no clock", http.Header{"Last-Modified": {old}}, validator{}},
		{"weak tag, old date", http.Header{"Etag": {`W/"a"`}, "Last-Modified": {old}, "Date": {date}}, validator{lastModified: old}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := validatorOf(tt.header)
			if got != tt.want {
				t.Fatalf("validatorOf = %+v, want %+v", got, tt.want)
			}
			if got.contradictedBy(tt.header) {
				t.Error("contradicted by its own header")
			}
			if got.strong() && !got.contradictedBy(http.Header{}) {
				t.Error("a missing validator counts only when strict")
			}
			if other := (http.Header{"Etag": {`"z"`}, "Last-Modified": {"z"}}); got.strong() && !got.contradictedBy(other) {
				t.Error("not contradicted by another")
			}
		})
	}
}

func TestRequestCheck(t *testing.T) {
	t.Parallel()
	good := Request{URL: "https://example.org/disk"}
	digest := "sha256:" + strings.Repeat("a", 64)
	tests := []struct {
		name   string
		change func(*Request)
		say    string
	}{
		{"good", func(*Request) {}, ""},
		{"digest", func(r *Request) { r.Digest = digest }, ""},
		{"no scheme", func(r *Request) { r.URL = "example.org/x" }, "not a URL"},
		{"file", func(r *Request) { r.URL = "file:///etc/passwd" }, "not a URL"},
		{"ftp", func(r *Request) { r.URL = "ftp://h/x?SECRET" }, "use http or https"},
		{"opaque", func(r *Request) { r.URL = "https:SECRET" }, "not a URL"},
		{"userinfo", func(r *Request) { r.URL = "https://u:SECRET@h/x" }, "Authorization header"},
		{"short digest", func(r *Request) { r.Digest = "sha256:abc" }, "64 lower-case"},
		{"upper-case digest", func(r *Request) { r.Digest = strings.ToUpper(digest) }, "64 lower-case"},
		{"connections", func(r *Request) { r.Connections = 65 }, "1 to 64"},
		{"negative size", func(r *Request) { r.MaxSize = -1 }, "positive"},
		{"format", func(r *Request) { r.Format = "Vmdk" }, "Auto, Qcow2, Raw or Opaque"},
		{"verify", func(r *Request) { r.Verify = "twice" }, "cache or media"},
		{"image name", func(r *Request) { r.ImageName = "../x" }, "image name"},
		{"hidden image name", func(r *Request) { r.ImageName = ".tmp-x" }, "image name"},
		{"range header", func(r *Request) { r.Header = http.Header{"Range": {"SECRET"}} }, "set by the engine"},
		{"split header", func(r *Request) { r.Header = http.Header{"X": {"SECRET\r\nY: z"}} }, "control character"},
		{"header name", func(r *Request) { r.Header = http.Header{"X Y": {"SECRET"}} }, "not valid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := good
			tt.change(&r)
			err := r.Check()
			if tt.say == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if reasonOf(err) != InvalidSource || !strings.Contains(err.Error(), tt.say) || strings.Contains(err.Error(), "SECRET") {
				t.Fatalf("Check() = %v, want InvalidSource saying %q", err, tt.say)
			}
		})
	}
}
