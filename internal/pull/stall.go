package pull

import "time"

// stallFloor is the rate below which a pull as a whole makes no progress worth
// waiting for, in bytes per second.
const stallFloor = 1 << 10

// stallDetector tells a pull that creeps from one that moves. Within every
// window at least floor bytes per second have to arrive, on average; a window
// that has seen them ends, and the next one begins.
type stallDetector struct {
	window time.Duration
	need   int64 // bytes within a window

	since time.Time
	base  int64
}

// newStallDetector starts the first window. A pull whose own rate limit is low
// is held to half of that limit.
func newStallDetector(window time.Duration, limit int64, now time.Time) *stallDetector {
	floor := int64(stallFloor)
	if limit > 0 {
		floor = min(floor, limit/2)
	}
	return &stallDetector{window: window, need: max(1, int64(float64(floor)*window.Seconds())), since: now}
}

// stalled takes the count of bytes received so far, which never falls, and
// reports whether a whole window went by without enough of them.
func (d *stallDetector) stalled(now time.Time, received int64) bool {
	if received-d.base >= d.need {
		d.reset(now, received)
	}
	return now.Sub(d.since) >= d.window
}

// failure says what came within the window that is over, given the count of bytes received so far.
func (d *stallDetector) failure(received int64) error {
	if received == d.base {
		return fail(SourceStalled, "the server sent nothing for %s", d.window)
	}
	return fail(SourceStalled, "fewer than %d bytes came within %s", d.need, d.window)
}

// reset begins a new window.
func (d *stallDetector) reset(now time.Time, received int64) { d.since, d.base = now, received }
