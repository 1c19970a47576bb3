package pull

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// leaseMin and leaseMax bound a lease, in bytes.
	leaseMin = 4 << 20
	leaseMax = 256 << 20
	// windowMin and windowMax bound how far past the hasher leases may begin. What
	// lies between is memory of the node's, and workers that run ahead of a busy
	// hasher only take its processor; but where a slow connection holds the
	// hasher up, the others need room to go on.
	windowMin = 64 << 20
	windowMax = 512 << 20
	// leaseTime is how long a lease should take one connection, and
	// leaseRoundTrips how many times the wait for its first byte at least, so
	// that a long round trip costs a fortieth at most.
	leaseTime       = 100 * time.Millisecond
	leaseRoundTrips = 40
)

// lease is a part of the object that one worker fetches, from next to end.
type lease struct {
	next int64 // written by its worker, under the scheduler's lock
	end  int64 // lowered by whoever takes the back of the lease over; guarded by that lock

	// The worker's own.
	crc            uint32  // of the bytes of the unit in flight, up to next
	from           edition // of these bytes
	answer         edition // of the response that is being read
	held           []heldUnit
	contradictions int // answers to it that contradicted the request

	// For those who look at it from outside, guarded by the scheduler's lock.
	holding bool                    // units are held: nobody may take from it
	writing bool                    // a write to the unit in flight is under way
	doubled bool                    // the unit in flight is fetched by another worker too
	cancel  context.CancelCauseFunc // ends the response that is being read; nil when there is none
	meter   meter
	arrived atomic.Int64 // body bytes of its responses
}

// heldUnit is a unit on disk that is not committed, because the response that
// brought it did not say how long it is and has not ended.
type heldUnit struct {
	unit int
	size int64
	crc  uint32
	from edition
}

// meterWindow is over how long the rate of a response is taken.
const meterWindow = time.Second

// meter tells the recent rate of a response.
type meter struct {
	began time.Time // zero: no response
	since time.Time // begin of the window
	base  int64     // bytes at that time
	last  float64   // rate of the window before; 0 in the first
}

// start begins to measure a response.
func (m *meter) start(now time.Time, arrived int64) {
	*m = meter{began: now, since: now, base: arrived}
}

// sample ends a window that has lasted long enough.
func (m *meter) sample(now time.Time, arrived int64) {
	if took := now.Sub(m.since); !m.began.IsZero() && took >= meterWindow {
		m.last = float64(arrived-m.base) / took.Seconds()
		m.since, m.base = now, arrived
		m.last = max(m.last, 1) // 0 is unknown
	}
}

// rate returns bytes per second: of the last whole window, or of what there is
// of the first one, in which a response that has just begun is given the benefit
// of the doubt.
func (m *meter) rate(now time.Time, arrived int64) float64 {
	if m.last > 0 {
		return m.last
	}
	return float64(max(arrived-m.base, progressBytes)) / max(now.Sub(m.since), time.Microsecond).Seconds()
}

// leaseSize is how much one connection is given at once: about leaseTime of work
// at its own rate, but no more than its share of what is left, so that nobody
// waits long for the last. Rates are in bytes per second; 0 is unknown.
func leaseSize(rate float64, firstByte time.Duration, left int64, workers int) int64 {
	size := int64(leaseMin)
	if rate > 0 {
		seconds := max(leaseTime, leaseRoundTrips*firstByte).Seconds()
		size = int64(min(rate*seconds, leaseMax))
	}
	size = min(size, left/int64(2*workers))
	return max(leaseMin, size-size%unitSize)
}
