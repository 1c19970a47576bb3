package pull

import (
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
	// regrow is how long after a refusal one connection is added again; it
	// doubles with every further refusal up to regrowMost.
	regrow     = time.Second
	regrowMost = 32 * time.Second
)

// sample is what a pull looks like at a moment.
type sample struct {
	received  int64         // body bytes since its begin
	running   int           // connections at work
	hashed    int64         // bytes of the object
	hashRate  float64       // bytes per second of the hasher while it is busy; 0 unknown
	firstByte time.Duration // the wait for a first byte of late
}

// governor finds how many connections a pull should use: it adds while the rate
// rises and the hasher keeps up. It holds no clock.
type governor struct {
	mu    sync.Mutex
	limit int
	most  int

	since    time.Time // begin of the trial
	base     int64     // bytes received then
	best     float64   // rate before the last step
	before   int       // connections before the last step
	trying   bool      // a step was made and is not judged yet
	flat     int       // trials in a row without gain
	hold     time.Time // no step before
	backoff  time.Duration
	refusals time.Time // the last one that counted
}

func newGovernor(most int, now time.Time) *governor {
	limit := min(startConnections, most)
	return &governor{limit: limit, most: most, since: now}
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

// observe takes a sample and returns how many connections may be at work.
func (g *governor) observe(now time.Time, s sample) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	took := now.Sub(g.since)
	if took < growInterval+2*s.firstByte {
		return g.limit
	}
	rate := float64(s.received-g.base) / took.Seconds()
	g.since, g.base = now, s.received
	switch {
	case s.running < g.limit:
		// Not what the connections can do: there is too little work for them.
	case s.hashRate > 0 && rate > s.hashRate:
		// The hasher cannot take more, so that more connections would only take
		// its processor. None is parked either: a hasher that is short of
		// processors for a moment would leave the network idle.
		g.trying = false
	case g.trying && rate < g.best*growGain:
		if g.flat++; g.flat >= 2 {
			g.limit, g.trying, g.flat = g.before, false, 0
			g.hold = now.Add(holdTime)
		}
	case now.Before(g.hold):
	default:
		g.step(rate)
	}
	return g.limit
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
