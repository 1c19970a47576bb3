package pull

import (
	"context"
	"errors"
	"time"
)

// errTaken ends a response whose last unit came from elsewhere.
var errTaken = errors.New("another connection was faster")

// errSlow ends a response whose connection is to be replaced.
var errSlow = errors.New("the connection is much slower than the others")

// portions shows the leases at work. The caller holds mu.
func (s *scheduler) portions(now time.Time) []portion {
	parts := make([]portion, len(s.active))
	for i, l := range s.active {
		p := portion{next: l.next, end: l.end, fixed: l.holding, doubled: l.doubled}
		if !l.meter.began.IsZero() {
			p.rate, p.age = l.meter.rate(now, l.arrived.Load()), now.Sub(l.meter.began)
		}
		parts[i] = p
	}
	return parts
}

// relieve takes a part of an active lease over: its back, or, when there is only
// the unit in flight, that unit a second time. The caller holds mu.
func (s *scheduler) relieve(ctx context.Context, parts []portion, i int, a asker) *task {
	victim, p := s.active[i], parts[i]
	if p.above() < p.end {
		l := &lease{next: split(p, a.rate), end: victim.end}
		victim.end = l.next
		s.active = append(s.active, l)
		return &task{lease: l}
	}
	victim.doubled = true
	unit := int(p.next / unitSize)
	ctx, cancel := context.WithCancel(ctx)
	s.doubles[unit] = cancel
	return &task{lease: victim, double: true, unit: unit, size: p.above() - int64(unit)*unitSize, ctx: ctx}
}

// claim makes the worker that fetched a unit a second time its owner, unless it
// is committed. From then on nobody else writes to it.
func (s *scheduler) claim(t *task) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t.lease.writing { // for as long as one write takes
		s.changed.Wait()
	}
	if s.units.has(t.unit) || t.lease.next >= t.lease.end || int(t.lease.next/unitSize) != t.unit {
		return false
	}
	t.lease.end = t.lease.next // its worker finds nothing left to do
	if t.lease.cancel != nil {
		t.lease.cancel(errTaken)
	}
	return true
}

// undouble ends a double: the unit is committed, or may be fetched a second time again.
func (s *scheduler) undouble(t *task) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel, ok := s.doubles[t.unit]; ok {
		cancel()
		delete(s.doubles, t.unit)
	}
	t.lease.doubled = false
	s.running--
	s.changed.Broadcast()
}

// ask returns what is left of a lease and begins to measure its next response,
// which cancel ends. hold says that its length is undeclared.
func (s *scheduler) ask(l *lease, cancel context.CancelCauseFunc) span {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.cancel = cancel
	l.meter.start(time.Now(), l.arrived.Load())
	return span{l.next, l.end}
}

// hold keeps others from taking parts of a lease whose response may turn out wrong.
func (s *scheduler) hold(l *lease, holding bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.holding = holding
}

// open reports whether anything is left of a lease.
func (s *scheduler) open(l *lease) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return l.next < l.end
}

// admit returns how many of size bytes may be written at the position of a
// lease, which is its worker's until wrote is called. A write never crosses the
// end of a unit, and parts are taken over in whole units.
func (s *scheduler) admit(l *lease, size int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	size = int(min(int64(size), l.end-l.next))
	l.writing = size > 0
	return max(0, size)
}

// wrote ends what admit began.
func (s *scheduler) wrote(l *lease, size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.next += int64(size)
	l.writing = false
	if l.doubled {
		s.changed.Broadcast()
	}
}

// rollback forgets what is not committed and returns how many bytes that is.
func (s *scheduler) rollback(l *lease) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := l.next
	if l.next < l.end {
		l.next -= l.next % unitSize
	}
	if len(l.held) > 0 {
		l.next = int64(l.held[0].unit) * unitSize
	}
	l.crc, l.held = 0, l.held[:0]
	return before - l.next
}

// wroteUnit is wrote for bytes that complete a unit, which it commits.
func (s *scheduler) wroteUnit(l *lease, size int, u heldUnit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.next += int64(size)
	l.writing = false
	return s.record(u)
}
