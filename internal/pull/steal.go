package pull

import (
	"slices"
	"time"
)

const (
	// stealTime is how long a lease must still take to be worth another
	// connection, and stealRoundTrips how many waits for a first byte at least:
	// taking a part away costs its worker the connection.
	stealTime       = 300 * time.Millisecond
	stealRoundTrips = 10
	// lagRatio is how many times slower than the median the frontier's lease has
	// to be for others to help it before they go on with the rest.
	lagRatio = 3
	// lagTime is how long it has to be so.
	lagTime = time.Second
)

// portion is a lease as others see it.
type portion struct {
	next, end int64
	rate      float64       // bytes per second of its response; 0 when there is none
	age       time.Duration // of the response
	fixed     bool          // nothing of it may be taken
	doubled   bool          // the unit in flight is fetched twice already
}

// rest returns how long the portion will take at its rate.
func (p portion) rest() time.Duration {
	return time.Duration(float64(p.end-p.next) / max(p.rate, 1) * float64(time.Second))
}

// above returns where the unit in flight ends: what is beyond can be taken over.
func (p portion) above() int64 { return min((p.next/unitSize+1)*unitSize, p.end) }

// open reports whether another connection can take something over.
func (p portion) open() bool { return !p.fixed && p.rate > 0 && (p.above() < p.end || !p.doubled) }

// longest returns the portion that will take longest, if it will take longer
// than worth.
func longest(parts []portion, worth time.Duration) (int, bool) {
	best := -1
	for i, p := range parts {
		if p.open() && p.age >= worth && p.rest() > worth && (best < 0 || p.rest() > parts[best].rest()) {
			best = i
		}
	}
	return best, best >= 0
}

// lagging returns the portion at the frontier, if it is slower than lagRatio
// times the median and will be so for a while: all that lies behind it cannot be hashed.
func lagging(parts []portion, frontier int64, worth time.Duration) (int, bool) {
	var rates []float64
	first := -1
	for i, p := range parts {
		if p.rate > 0 {
			rates = append(rates, p.rate)
		}
		if p.next/unitSize == frontier/unitSize && p.open() {
			first = i
		}
	}
	if first < 0 || len(rates) < 3 {
		return 0, false
	}
	p := parts[first]
	return first, p.age >= worth && p.rate*lagRatio < median(rates) && p.rest() > max(worth, lagTime)
}

// split returns from where on another connection of the given rate takes a
// portion over, so that both end together, but at least the back half; at the
// end of the unit in flight or later, where a unit begins. 0 is an unknown rate.
func split(p portion, rate float64) int64 {
	above := p.above()
	share := 1. / 2
	if rate > 0 {
		share = max(share, rate/(rate+p.rate))
	}
	at := p.end - int64(share*float64(p.end-above))
	return max(above, at-at%unitSize)
}

// median of at least one number.
func median(numbers []float64) float64 {
	sorted := slices.Sorted(slices.Values(numbers))
	return sorted[len(sorted)/2]
}
