package pull

import "time"

const (
	// slowShare of the median of the others is what a connection has to reach,
	// unless it reaches slowFloor, in bytes per second.
	slowShare = 0.15
	slowFloor = 4 << 20
	// slowPeers is how many other connections it takes to tell slow from usual.
	slowPeers = 2
	// replaceInterval is the time between the first two replacements of a pull.
	// It doubles each time, up to replaceMost: a machine that is short of
	// processors makes connections look slow that are not.
	replaceInterval = 2 * time.Second
	replaceMost     = 30 * time.Second
)

// pace is how fast a connection is of late.
type pace struct {
	rate float64       // bytes per second
	age  time.Duration // of its response
}

// slowest returns which connection should be replaced by a new one: one that is
// far below its peers for as long as suspicion, not one of many that are slow
// together.
func slowest(paces []pace, suspicion time.Duration) (int, bool) {
	worst := -1
	for i, p := range paces {
		if p.age >= suspicion && p.rate < slowFloor && (worst < 0 || p.rate < paces[worst].rate) {
			worst = i
		}
	}
	if worst < 0 {
		return 0, false
	}
	var others []float64
	for i, p := range paces {
		if i != worst && p.rate > 0 {
			others = append(others, p.rate)
		}
	}
	if len(others) < slowPeers {
		return 0, false
	}
	return worst, paces[worst].rate < slowShare*median(others)
}

// coolDown is the time after a replacement without another one.
type coolDown struct {
	until    time.Time
	interval time.Duration
}

// over reports whether there may be a replacement.
func (c *coolDown) over(now time.Time) bool { return !now.Before(c.until) }

// begin takes note of a replacement.
func (c *coolDown) begin(now time.Time) {
	c.interval = min(max(replaceInterval, 2*c.interval), replaceMost)
	c.until = now.Add(c.interval)
}

// replaceSlow ends the response of a connection that is much slower than the
// others, so that its lease goes on over a new one. It reports whether there was one.
func (s *scheduler) replaceSlow(now time.Time, suspicion time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	paces := make([]pace, len(s.active))
	for i, l := range s.active {
		if !l.meter.began.IsZero() {
			paces[i] = pace{l.meter.rate(now, l.arrived.Load()), now.Sub(l.meter.began)}
		}
	}
	i, ok := slowest(paces, suspicion)
	if !ok || s.active[i].cancel == nil {
		return false
	}
	s.active[i].cancel(errSlow)
	return true
}
