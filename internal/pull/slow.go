package pull

import "time"

const (
	// slowShare of the median of the others is what a connection has to reach,
	// unless it reaches slowFloor, in bytes per second.
	slowShare = 0.15
	slowFloor = 4 << 20
	// slowPeers is how many other connections it takes to tell slow from usual.
	slowPeers = 2
	// replaceInterval is the time between two replacements in one pull.
	replaceInterval = 2 * time.Second
)

// pace is how fast a connection is of late.
type pace struct {
	rate float64       // bytes per second
	age  time.Duration // of its response
}

// slowest returns which connection should be replaced by a new one: one that is
// far below its peers, not one of many that are slow together.
func slowest(paces []pace) (int, bool) {
	worst := -1
	for i, p := range paces {
		if p.age >= meterWindow && p.rate < slowFloor && (worst < 0 || p.rate < paces[worst].rate) {
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

// replaceSlow ends the response of a connection that is much slower than the
// others, so that its lease goes on over a new one. It reports whether there was one.
func (s *scheduler) replaceSlow(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	paces := make([]pace, len(s.active))
	for i, l := range s.active {
		if !l.meter.began.IsZero() {
			paces[i] = pace{l.meter.rate(now, l.arrived.Load()), now.Sub(l.meter.began)}
		}
	}
	i, ok := slowest(paces)
	if !ok || s.active[i].cancel == nil {
		return false
	}
	s.active[i].cancel(errSlow)
	return true
}
