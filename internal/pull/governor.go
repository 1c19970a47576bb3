package pull

import (
	"runtime"
	"sync"
	"time"
)

const (
	// startConnections is how many connections a pull begins with.
	startConnections = 4
	// growInterval is how long a number of connections is tried before it is
	// judged, on top of two round trips.
	growInterval = 60 * time.Millisecond
	// growGain is by how much the rate has to rise for more connections to be worth it.
	growGain = 1.05
	// holdTime is how long the number stays where adding did not help.
	holdTime = 2 * time.Second
	// hashMost and processorsMost are the parts of its time that the hasher and of
	// their time that the processors may be busy before more connections would
	// only take what they have. The kernel's work is not all counted here.
	hashMost, processorsMost = 0.9, 0.6
	// regrow is how long after a refusal one connection is added again; it
	// doubles with every further refusal up to regrowMost.
	regrow     = time.Second
	regrowMost = 32 * time.Second
)

// sample is what a pull looks like at a moment.
type sample struct {
	received   int64         // body bytes since its begin
	running    int           // connections at work
	hashing    time.Duration // that the hasher was busy since the begin
	processors time.Duration // that this process took of its processors
	firstByte  time.Duration // the wait for a first byte of late
	rereading  bool          // the hasher is among the bytes of an earlier pull
}

// governor finds how many connections a pull should use: it adds while the rate
// rises and the node keeps up. It holds no clock.
type governor struct {
	mu    sync.Mutex
	limit int
	most  int

	since    time.Time // begin of the trial
	begin    sample    // then
	bound    bool      // in the last trial the node itself was the limit
	best     float64   // rate before the last step
	before   int       // connections before the last step
	trying   bool      // a step was made and is not judged yet
	flat     int       // trials in a row without gain
	hold     time.Time // no step before
	backoff  time.Duration
	refusals time.Time // the last one that counted
}

// newGovernor begins a trial with a sample of the pull's begin.
func newGovernor(most int, now time.Time, begin sample) *governor {
	return &governor{limit: min(startConnections, most), most: most, since: now, begin: begin}
}

// refused takes note that the server wants fewer connections, and halves them:
// once for all refusals of a moment.
func (g *governor) refused(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.refusals.IsZero() && now.Sub(g.refusals) < growInterval {
		return
	}
	g.refusals = now
	g.limit = max(1, g.limit/2)
	g.backoff = min(max(regrow, 2*g.backoff), regrowMost)
	g.hold, g.trying = now.Add(g.backoff), false
}

// observe takes a sample and returns how many connections may be at work, and
// whether the node itself is the limit, and not the network.
func (g *governor) observe(now time.Time, s sample) (limit int, bound bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	took := now.Sub(g.since)
	if took < growInterval+2*s.firstByte {
		return g.limit, g.bound
	}
	rate := float64(s.received-g.begin.received) / took.Seconds()
	g.bound = !g.begin.rereading && nodeBound(g.begin, s, took)
	g.since, g.begin = now, s
	switch {
	case g.bound:
		g.giveUp()
	case s.running < g.limit:
		// Not what the connections can do: there is too little work for them.
	case g.trying && rate < g.best*growGain:
		if g.flat++; g.flat >= 2 {
			g.giveUp()
		}
	case now.Before(g.hold):
	default:
		g.step(rate)
	}
	return g.limit, g.bound
}

// nodeBound reports whether more connections would only take what hasher and
// processors have. Nobody waits for a hasher that reads an earlier pull's bytes
// again, however busy it is.
func nodeBound(begin, end sample, took time.Duration) bool {
	processors := time.Duration(runtime.GOMAXPROCS(0)) * took
	return float64(end.hashing-begin.hashing) > hashMost*float64(took) ||
		float64(end.processors-begin.processors) > processorsMost*float64(processors)
}

// giveUp goes back to the connections before a step that is on trial.
func (g *governor) giveUp() {
	if g.trying {
		g.limit, g.trying, g.hold = g.before, false, g.since.Add(holdTime)
	}
}

// step adds connections: twice as many, or one more after a refusal.
func (g *governor) step(rate float64) {
	g.flat, g.trying = 0, false
	if g.limit == g.most {
		return
	}
	g.best, g.before, g.trying = rate, g.limit, true
	if g.backoff > 0 {
		g.limit, g.trying = g.limit+1, false
		g.hold = g.since.Add(g.backoff)
		return
	}
	g.limit = min(2*g.limit, g.most)
}
