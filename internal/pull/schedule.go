package pull

import (
	"context"
	"sync"
	"time"
)

const (
	// leaseMin and leaseMax bound a lease, in bytes.
	leaseMin = 4 << 20
	leaseMax = 256 << 20
	// leaseWindow is how far past the frontier leases may begin: it bounds what
	// lies on disk out of order.
	leaseWindow = 512 << 20
	// leaseTime is how long a lease should take one connection, and
	// leaseRoundTrips how many times the wait for its first byte at least, so
	// that a long round trip costs a twentieth at most.
	leaseTime       = time.Second
	leaseRoundTrips = 20
)

// lease is a part of the object that one worker fetches, from next to end.
type lease struct {
	next, end int64
	crc       uint32 // of the bytes of the unit in flight, up to next
	held      []heldUnit
}

// heldUnit is a unit on disk that is not committed, because the response that
// brought it did not say how long it is and has not ended.
type heldUnit struct {
	unit int
	size int64
	crc  uint32
}

// rollback forgets what is not committed.
func (l *lease) rollback() {
	l.next -= l.next % unitSize
	if len(l.held) > 0 {
		l.next = int64(l.held[0].unit) * unitSize
	}
	l.crc, l.held = 0, l.held[:0]
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

// scheduler hands out leases in file order, keeps the map of committed units,
// and tells the hasher how far the file is whole. It is safe for concurrent use.
type scheduler struct {
	mu       sync.Mutex
	changed  sync.Cond
	units    *unitMap
	unleased int64    // everything from here on was never leased
	returned []*lease // given back by workers, in no order
	hashed   int64

	// Of a pull that goes on where an earlier one ended: the units that the
	// hasher has still to compare, and what was not to be fetched, in bytes.
	untrusted      []uint64
	untrustedUnits int
	resumed        int64
}

func newScheduler(total int64) *scheduler {
	s := &scheduler{units: newUnitMap(total)}
	s.changed.L = &s.mu
	return s
}

// take hands out the part up to end that nobody had before; it is for the
// answer to the first request.
func (s *scheduler) take(end int64) *lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &lease{next: s.unleased, end: end}
	s.unleased = end
	return l
}

// next waits for a lease that is due and returns it, given how large it should
// be for what is left. It returns nil when the object is complete.
func (s *scheduler) next(ctx context.Context, size func(left int64) int64) (*lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.units.complete() && s.untrustedUnits == 0 {
			return nil, nil
		}
		if l := s.due(size); l != nil {
			return l, nil
		}
		if err := s.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// due returns the lease nearest to the frontier, or nil when there is none or
// others have to catch up first.
func (s *scheduler) due(size func(left int64) int64) *lease {
	if n := len(s.returned); n > 0 {
		first := 0
		for i, l := range s.returned {
			if l.next < s.returned[first].next {
				first = i
			}
		}
		l := s.returned[first]
		s.returned[first] = s.returned[n-1]
		s.returned = s.returned[:n-1]
		return l
	}
	frontier, left := s.units.frontierBytes(), s.units.total-s.unleased
	if left <= 0 || s.unleased >= frontier+leaseWindow {
		return nil
	}
	l := &lease{next: s.unleased, end: s.unleased + min(left, size(left))}
	s.unleased = l.end
	return l
}

// giveBack returns what a worker could not fetch of a lease to the others.
func (s *scheduler) giveBack(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.rollback()
	s.returned = append(s.returned, l)
	s.changed.Broadcast()
}

// commit records a unit whose bytes are in the file.
func (s *scheduler) commit(u heldUnit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.units.commit(u.unit, u.size, u.crc); err != nil {
		return err
	}
	s.changed.Broadcast()
	return nil
}

// finish fixes the size of an object whose stream has ended.
func (s *scheduler) finish(total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.units.finish(total)
	s.changed.Broadcast()
}

// whole waits until the file is whole beyond a position, or complete. It returns
// up to where it is whole and whether that is all.
func (s *scheduler) whole(ctx context.Context, beyond int64) (frontier int64, complete bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.units.frontierBytes() <= beyond && !s.units.complete() {
		if err := s.wait(ctx); err != nil {
			return 0, false, err
		}
	}
	return s.units.frontierBytes(), s.units.complete(), nil
}

// setHashed notes how far the hasher is.
func (s *scheduler) setHashed(at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hashed = at
	s.changed.Broadcast()
}

// progress returns the committed and the hashed bytes and the total, -1 while unknown.
func (s *scheduler) progress() (committed, hashed, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.units.committed, s.hashed, s.units.total
}

// wait waits for the next change or the end of ctx. The caller holds mu.
func (s *scheduler) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	if err := ctx.Err(); err != nil {
		return err
	}
	s.changed.Wait()
	return ctx.Err()
}
