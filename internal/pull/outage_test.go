package pull

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// source of TestOutage: what it answers at a time.
type answering func(since time.Duration) (served, refused bool)

// play has workers fetch from a source that fails, as fast as they may, until one is
// served or the pull is given up. It returns how long that took and how many
// requests were made, besides the one of each worker that was on its way.
func play(workers int, answer answering) (took time.Duration, requests int, given bool) {
	o := outage{patience: outagePatience, delay: func(attempt int, wish time.Duration) time.Duration { return backoff(attempt, wish, 1) }}
	began := time.Now()
	var mu sync.Mutex
	var all sync.WaitGroup
	over := make(chan struct{})
	end := sync.OnceFunc(func() { took = time.Since(began); close(over) })
	for i := range workers {
		all.Go(func() {
			for n := 0; ; n++ {
				ok, alone := o.admits(time.Now(), 0)
				select {
				case <-over:
					return
				case <-time.After(superviseInterval):
				}
				if !ok {
					continue
				}
				sent := time.Now()
				time.Sleep(time.Duration(1+i) * time.Millisecond) // a round trip
				served, refused := answer(time.Since(began))
				mu.Lock()
				if n > 0 || workers == 1 {
					requests++
				}
				mu.Unlock()
				if served {
					o.served()
					end()
					return
				}
				wait, again := o.failed(failure{sent: sent, now: time.Now(), refused: refused, alone: alone || workers == 1})
				if !again {
					mu.Lock()
					given = true
					mu.Unlock()
					end()
					return
				}
				time.Sleep(wait)
			}
		})
	}
	all.Wait()
	return took, requests, given
}

func TestOutage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		answer      answering
		given       bool
		least, most time.Duration
		requests    int // at most
	}{
		{"30 seconds", func(since time.Duration) (bool, bool) { return since > 30*time.Second, false }, false, 30 * time.Second, 40 * time.Second, 12},
		{"for good", func(time.Duration) (bool, bool) { return false, false }, true, 30 * time.Second, 45 * time.Second, 12},
		{"refused for good", func(time.Duration) (bool, bool) { return false, true }, true, 0, 5 * time.Second, maxRefusals + 1},
		{"refused twice", func(since time.Duration) (bool, bool) { return since > 500*time.Millisecond, true }, false, 0, 5 * time.Second, 4},
	}
	for _, tt := range tests {
		for _, workers := range []int{1, 8, MaxConnections} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, workers), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					took, requests, given := play(workers, tt.answer)
					t.Logf("%s, %d requests", took, requests)
					if given != tt.given || took < tt.least || took > tt.most || requests > tt.requests {
						t.Errorf("given up is %t after %s and %d requests", given, took, requests)
					}
				})
			})
		}
	}
}

// TestOutageCountsProgress: a source that serves between two failures does not fail.
func TestOutageCountsProgress(t *testing.T) {
	t.Parallel()
	o := outage{patience: outagePatience, delay: func(attempt int, _ time.Duration) time.Duration { return time.Duration(attempt) * time.Second }}
	now := time.Unix(1000, 0)
	fails := func(kept int64) (time.Duration, bool) {
		now = now.Add(outagePatience - time.Second)
		return o.failed(failure{sent: now.Add(-time.Millisecond), now: now, kept: kept})
	}
	for i := range int64(10) {
		if wait, again := fails(i * progressBytes); !again || wait != time.Second {
			t.Fatalf("failure %d: wait %s, again %t", i, wait, again)
		}
	}
	if wait, again := fails(10*progressBytes - 1); !again || wait != 2*time.Second {
		t.Errorf("after a little: wait %s, again %t", wait, again)
	}
	if ok, _ := o.admits(now, 10*progressBytes-1); ok {
		t.Error("a request at once")
	}
	if ok, alone := o.admits(now, 10*progressBytes); !ok || alone {
		t.Errorf("after progress: %t, alone %t", ok, alone)
	}
	if _, again := fails(10*progressBytes - 1); again {
		t.Error("nothing came for longer than the patience")
	}
}

// slower has a store wait a tenth of what it does for a person, and for three
// seconds.
func slower(s *Store) {
	s.delay = func(attempt int, wish time.Duration) time.Duration { return backoff(attempt, wish, 1) / 10 }
	s.endurance = 3 * time.Second
}

// down has a server fail for some time from the first request that a condition
// admits. It returns how many requests came in that time.
func down(lasts time.Duration, when func(*pulltest.Exchange) bool, fails ...pulltest.Behaviour) (behave pulltest.Behaviour, asked *atomic.Int32) {
	var once sync.Once
	var until time.Time
	var began atomic.Bool
	asked = &atomic.Int32{}
	return pulltest.When(func(x *pulltest.Exchange) bool {
		if when(x) {
			once.Do(func() { until = time.Now().Add(lasts); began.Store(true) })
		}
		if !began.Load() || time.Now().After(until) {
			return false
		}
		asked.Add(1)
		return true
	}, fails...), asked
}

// TestOutageInMidPull has a server that fails for two seconds where a pull waits for
// three.
func TestOutageInMidPull(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, resumeSize)
	for name, fails := range map[string]pulltest.Behaviour{
		"503": pulltest.Status(http.StatusServiceUnavailable), "no answer": pulltest.Hang, "reset": pulltest.Reset(0),
	} {
		for _, connections := range []int{1, 8, MaxConnections} {
			t.Run(fmt.Sprintf("%s/%d", name, connections), func(t *testing.T) {
				t.Parallel()
				outage, asked := down(2*time.Second, func(x *pulltest.Exchange) bool { return x.Asked.Start >= 16<<20 }, fails)
				server := pulltest.New(t, object, outage)
				s := openStore(t)
				slower(s)
				result := mustPull(t, s, Request{URL: server.URL, Digest: pulltest.Digest(object), Connections: connections})
				if result.Retries == 0 || asked.Load() == 0 {
					t.Error("there was no outage")
				}
				// The doubling waits give eight, besides those on their way, which net/http
				// repeats where a connection that it kept is closed.
				if n := int(asked.Load()); n > 8+4*min(connections, resumeSize/leaseMin+1) {
					t.Errorf("%d requests in two seconds", n)
				}
				if sent := float64(server.BytesSent()) / resumeSize; sent > 1.5 {
					t.Errorf("the server sent %.2f objects", sent)
				}
			})
		}
	}
}

// TestOutageEnds has a server that fails for good in the middle of a pull.
func TestOutageEnds(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, resumeSize)
	for _, connections := range []int{1, 8, MaxConnections} {
		t.Run(fmt.Sprint(connections), func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			server := pulltest.New(t, object, pulltest.When(func(x *pulltest.Exchange) bool { return x.Asked.Start >= 16<<20 },
				pulltest.Status(http.StatusServiceUnavailable, "Retry-After", "1"), func(*pulltest.Exchange) { asked.Add(1) }))
			s := openStore(t)
			s.endurance = 200 * time.Millisecond
			_, err := s.Pull(t.Context(), Request{URL: server.URL, Digest: pulltest.Digest(object), Connections: connections}, nil)
			wantReason(t, err, SourceThrottled)
			if wishOf(err) != time.Second {
				t.Errorf("the server's wish is %s", wishOf(err))
			}
			if n := int(asked.Load()); n > 10+2*min(connections, resumeSize/leaseMin+1) {
				t.Errorf("%d requests", n)
			}
			if len(entries(t, s.partial.path)) == 0 {
				t.Error("nothing is kept")
			}
		})
	}
}

// TestFirstRequest has a server that fails for a second before it serves anything:
// a person waits for it, an agent does so by itself.
func TestFirstRequest(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	for name, tt := range map[string]struct {
		patience time.Duration
		fails    pulltest.Behaviour
		want     Reason
		least    int // requests during the outage
		most     int
	}{
		"waited for":          {0, pulltest.Status(http.StatusServiceUnavailable), "", 2, 8},
		"waited for, refused": {0, pulltest.Hang, "", 2, 8},
		"asked once":          {AskOnce, pulltest.Status(http.StatusServiceUnavailable, "Retry-After", "120"), SourceThrottled, 1, 1},
		"asked once, 500":     {AskOnce, pulltest.Status(http.StatusInternalServerError), SourceUnavailable, 1, 2}, // and once without Range
		"asked once, refused": {AskOnce, pulltest.Hang, SourceUnavailable, 1, 1},
		"a little patience":   {100 * time.Millisecond, pulltest.Status(http.StatusBadGateway), SourceUnavailable, 2, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outage, asked := down(time.Second, func(*pulltest.Exchange) bool { return true }, tt.fails)
			server := pulltest.New(t, object, outage)
			s := openStore(t)
			slower(s)
			_, err := s.Pull(t.Context(), Request{URL: server.URL, Digest: pulltest.Digest(object), Patience: tt.patience}, nil)
			wantReason(t, err, tt.want)
			if n := int(asked.Load()); n < tt.least || n > tt.most {
				t.Errorf("%d requests, want %d to %d", n, tt.least, tt.most)
			}
			if tt.want == SourceThrottled && wishOf(err) != 2*time.Minute {
				t.Errorf("the server's wish is %s", wishOf(err))
			}
		})
	}
}

// TestFinalAnswers: what does not change by asking again is asked for once.
func TestFinalAnswers(t *testing.T) {
	t.Parallel()
	for _, status := range []int{501, 505, 506, 508, 510, 511} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			server := pulltest.New(t, pulltest.Random(1, 1<<20), pulltest.OnRange(pulltest.Status(status)), pulltest.Status(status))
			_, err := openStore(t).Pull(t.Context(), Request{URL: server.URL}, nil)
			wantReason(t, err, SourceUnavailable)
			ranges := 0
			for _, record := range server.Log() {
				if record.Header.Get("Range") != "" {
					ranges++
				}
			}
			if n := len(server.Log()); ranges != 1 || n > 2 { // the second without Range
				t.Errorf("%d requests, %d of them for a range", n, ranges)
			}
		})
	}
}
