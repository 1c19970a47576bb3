package pull

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestOneSlowConnection has one connection that would take minutes for what it
// was asked for.
func TestOneSlowConnection(t *testing.T) {
	t.Parallel()
	const size = 40 << 20
	tests := []struct {
		name        string
		connections int
		slow        pulltest.Behaviour
		patience    time.Duration
		suspicion   time.Duration
		reconnects  bool
	}{
		// Two connections make no median, so that nothing is replaced.
		{"its lease is taken over", 2, pulltest.Paced(20 << 10), stealTime, time.Hour, false},
		{"it falls silent within a unit", 2, pulltest.Stall(unitSize / 2), stealTime, time.Hour, false},
		{"it is replaced", 4, pulltest.Paced(20 << 10), time.Hour, meterWindow, true},
		{"both", 4, pulltest.Paced(20 << 10), stealTime, meterWindow, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			object := pulltest.Generated(size)
			server := pulltest.New(t, object, pulltest.Paced(6<<20), pulltest.OnConnection(1, tt.slow))
			s := openStore(t)
			s.patience, s.suspicion = tt.patience, tt.suspicion
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second) // alone it would take 200 s
			defer cancel()
			result, err := s.Pull(ctx, Request{URL: server.URL, Connections: tt.connections, Digest: pulltest.Digest(object), Format: FormatOpaque}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.reconnects && server.Connections() <= tt.connections {
				t.Errorf("%d connections were made: none was replaced", server.Connections())
			}
			if sent := float64(server.BytesSent()) / size; sent > 2 {
				t.Errorf("the server sent %.2f objects", sent)
			}
			if result.Retries != 0 {
				t.Errorf("%d retries: nothing had failed", result.Retries)
			}
		})
	}
}

func TestPullsShareTheNodesRate(t *testing.T) {
	t.Parallel()
	const size, limit = 12 << 20, 12 << 20
	s, err := Open(t.Context(), t.TempDir(), OpenOptions{MaxBytesPerSecond: limit, MaxConnections: 6, MaxConnectionsPerHost: 5})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	began := time.Now()
	var pulls sync.WaitGroup
	var durations [2]time.Duration
	for i, connections := range []int{1, 8} {
		pulls.Go(func() {
			server := pulltest.New(t, pulltest.Random(uint64(i), size))
			result, err := s.Pull(t.Context(), Request{URL: server.URL, Connections: connections}, nil)
			if err != nil {
				t.Error(err)
			}
			if result.Connections > 5 {
				t.Errorf("%d connections to one server", result.Connections)
			}
			durations[i] = result.Duration
		})
	}
	pulls.Wait()
	if took := time.Since(began); took < 1900*time.Millisecond {
		t.Errorf("24 MiB at 12 MiB/s took %s", took)
	}
	// By connections one would get three quarters or more, and be done at two thirds.
	if ratio := float64(durations[1]) / float64(durations[0]); ratio < 0.85 {
		t.Errorf("one connection took %s, several %s: the rate was not shared by pulls", durations[0], durations[1])
	}
	if len(s.budget.users) > 0 {
		t.Errorf("the budget remembers %d pulls that have ended", len(s.budget.users))
	}
}

// TestMorePullsThanConnections has each pull get its turn.
func TestMorePullsThanConnections(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), t.TempDir(), OpenOptions{MaxConnections: 2})
	if err != nil {
		t.Fatal(err)
	}
	s.patience, s.suspicion = time.Minute, time.Minute
	defer func() { _ = s.Close() }()
	server := pulltest.New(t, pulltest.Random(1, objectSize))
	var pulls sync.WaitGroup
	for i := range 6 {
		pulls.Go(func() {
			result, err := s.Pull(t.Context(), Request{URL: server.URL + "?" + strconv.Itoa(i)}, nil)
			if err != nil || result.Connections > 2 {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
	pulls.Wait()
}

// TestContradictionsGiveTheirConnectionsBack: what follows needs one, too.
func TestContradictionsGiveTheirConnectionsBack(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]OpenOptions{"of the node": {MaxConnections: 1}, "of the host": {MaxConnectionsPerHost: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := pulltest.Random(1, objectSize)
			server := pulltest.New(t, object, pulltest.Later(pulltest.Shifted(1)))
			s := openAt(t, t.TempDir(), options)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			result, err := s.Pull(ctx, Request{URL: server.URL, Digest: pulltest.Digest(object)}, nil)
			if err != nil || result.Parallel {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

// TestRetryAfterIsHonoured looks at the waits that a refused range leads to.
func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"seconds": "7",
		"date":    time.Now().Add(time.Hour).UTC().Format(http.TimeFormat),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := pulltest.Random(1, objectSize)
			server := pulltest.New(t, object, pulltest.OnNumber(1, pulltest.Status(http.StatusTooManyRequests, "Retry-After", value)))
			s := openStore(t)
			var mu sync.Mutex
			var longest time.Duration
			s.delay = func(_ int, wish time.Duration) time.Duration {
				mu.Lock()
				defer mu.Unlock()
				longest = max(longest, backoff(1, wish, 0))
				return time.Millisecond
			}
			result := mustPull(t, s, Request{URL: server.URL, Digest: pulltest.Digest(object)})
			want := retryAfterCap
			if name == "seconds" {
				want = 7 * time.Second
			}
			if longest != want || result.Retries != 1 {
				t.Errorf("the longest wait was %s, want %s; %d retries", longest, want, result.Retries)
			}
		})
	}
}

// TestARefusedWorkerHoldsNobodyUp: others bring what it could not.
func TestARefusedWorkerHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	server := pulltest.New(t, object, pulltest.OnNumber(1, pulltest.Status(http.StatusTooManyRequests, "Retry-After", "3600")))
	s := openStore(t)
	s.delay = func(attempt int, wish time.Duration) time.Duration { return backoff(attempt, wish, 0) }
	result := mustPull(t, s, Request{URL: server.URL, Digest: pulltest.Digest(object)})
	if result.Duration > retryAfterCap/2 {
		t.Errorf("the pull took %s", result.Duration)
	}
}
