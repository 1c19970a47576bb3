package pull

import (
	"context"
	"slices"
	"sync"
	"time"
)

// scheduler hands out leases in file order, keeps the map of committed units,
// and tells the hasher how far the file is whole. It is safe for concurrent use.
type scheduler struct {
	mu       sync.Mutex
	changed  sync.Cond
	units    *unitMap
	unleased int64    // everything from here on was never leased
	returned []*lease // given back by workers, in no order
	active   []*lease // in the hands of workers
	doubles  map[int]context.CancelFunc
	running  int // workers that have something to do
	limit    int // most of them at once
	hashed   int64
	window   int64         // how far past the hasher leases may begin
	short    bool          // a worker found no lease within it since the last tick
	done     chan struct{} // closed when the object is complete
	settled  bool          // it is closed

	// Of a pull that goes on where an earlier one ended: the units that the
	// hasher has still to compare, and what was not to be fetched, in bytes.
	untrusted      []uint64
	earlier        []uint64 // the units that it left and that were right so far
	untrustedUnits int
	resumed        int64
	streaming      bool // one response brings whatever is not committed when it gets there
}

func newScheduler(total int64) *scheduler {
	s := &scheduler{units: newUnitMap(total), limit: 1, window: windowMin, doubles: map[int]context.CancelFunc{}, done: make(chan struct{})}
	s.changed.L = &s.mu
	return s
}

// asker is a worker that has nothing to do.
type asker struct {
	rate      float64       // bytes per second of its recent responses; 0 unknown
	firstByte time.Duration // its last wait for a response
	worth     time.Duration // how long a lease must still take for help to be worth it
	workers   int           // that the pull has
	admit     func() bool   // takes a connection of the budgets, if there is one
	dismiss   func()        // gives it back
}

// task is what a worker is given: a lease, or the unit in flight of somebody
// else's lease, to be fetched a second time.
type task struct {
	lease  *lease
	double bool
	unit   int             // for a double
	size   int64           // of that unit
	ctx    context.Context //nolint:containedctx // ends a double whose unit came from elsewhere
}

// take hands out the part up to end that nobody had before; it is for the
// answer to the first request.
func (s *scheduler) take(end int64) *lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &lease{next: s.unleased, end: end}
	s.unleased = end
	s.running++
	s.active = append(s.active, l)
	return l
}

// next waits for work that is due. It returns nil when the object is complete.
func (s *scheduler) next(ctx context.Context, a asker) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.units.complete() && s.untrustedUnits == 0 {
			return nil, nil
		}
		if t := s.offer(ctx, a, time.Now()); t != nil {
			return t, nil
		}
		if err := s.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// offer finds work for a worker, as long as there may be one more at work.
func (s *scheduler) offer(ctx context.Context, a asker, now time.Time) *task {
	if s.running >= s.limit {
		return nil
	}
	if !a.admit() {
		return nil
	}
	t := s.choose(ctx, a, now)
	if t == nil {
		a.dismiss()
		return nil
	}
	s.running++
	return t
}

// choose prefers what holds everybody up: the frontier when it lags, then what
// was given back, then what nobody had yet, then a part of another's lease.
func (s *scheduler) choose(ctx context.Context, a asker, now time.Time) *task {
	parts := s.portions(now)
	if i, ok := lagging(parts, s.units.frontierBytes(), a.worth); ok {
		if t := s.relieve(ctx, parts, i, a); t != nil {
			return t
		}
	}
	l := s.due(func(left int64) int64 { return leaseSize(a.rate, a.firstByte, left, a.workers) })
	if l != nil {
		s.active = append(s.active, l)
		return &task{lease: l}
	}
	if i, ok := longest(parts, a.worth); ok {
		return s.relieve(ctx, parts, i, a)
	}
	return nil
}

// due returns the lease nearest to the frontier, or nil when there is none or
// others have to catch up first.
func (s *scheduler) due(size func(left int64) int64) *lease {
	s.returned = slices.DeleteFunc(s.returned, func(l *lease) bool { return l.next >= l.end })
	if len(s.returned) > 0 {
		first := 0
		for i, l := range s.returned {
			if l.next < s.returned[first].next {
				first = i
			}
		}
		l := s.returned[first]
		s.returned = slices.Delete(s.returned, first, first+1)
		return l
	}
	left := s.units.total - s.unleased
	if left <= 0 {
		return nil
	}
	if s.unleased >= s.horizon() {
		s.short = true
		return nil
	}
	l := &lease{next: s.unleased, end: s.unleased + min(left, size(left))}
	s.unleased = l.end
	return l
}

// horizon returns where the next lease may begin at most. While the hasher reads
// an earlier pull's bytes again, the rest does not wait for it.
func (s *scheduler) horizon() int64 {
	if s.untrustedUnits > 0 {
		return s.units.frontierBytes() + windowMax
	}
	return s.hashed + s.window
}

// release takes a lease back from its worker; what is left of it is for others.
func (s *scheduler) release(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = slices.DeleteFunc(s.active, func(other *lease) bool { return other == l })
	l.holding, l.cancel, l.meter = false, nil, meter{}
	if l.next < l.end {
		s.returned = append(s.returned, l)
	}
	s.running--
	s.changed.Broadcast()
}

// pause waits for d, or until nothing is left to wait for.
func (s *scheduler) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commit records a unit whose bytes are in the file.
func (s *scheduler) commit(u heldUnit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.record(u)
}

func (s *scheduler) record(u heldUnit) error {
	if err := s.units.commit(u.unit, u.size, u.crc); err != nil {
		return err
	}
	s.units.from[u.unit] = u.from
	if cancel, ok := s.doubles[u.unit]; ok {
		cancel()
	}
	s.settle()
	return nil
}

// settle notes a change that may have made the object complete: every unit is
// there, and none is left that only an earlier pull vouches for. That is final.
func (s *scheduler) settle() {
	if s.units.complete() && s.untrustedUnits == 0 && !s.settled {
		s.settled = true
		close(s.done)
	}
	s.changed.Broadcast()
}

// finish fixes the size of an object whose stream has ended.
func (s *scheduler) finish(total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.units.finish(total)
	s.settle()
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

// tick says how many workers may be at work from now on, and whether the node
// itself is what the pull waits for; if not, they get more room where they were
// short of it. It brings the rates up to date, and has those that wait look again:
// time alone can make a lease worth taking over.
func (s *scheduler) tick(limit int, bound bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
	switch {
	case bound:
		s.window = windowMin
	case s.short:
		s.window = min(2*s.window, windowMax)
	}
	s.short = false
	for _, l := range s.active {
		l.meter.sample(now, l.arrived.Load())
	}
	s.changed.Broadcast()
}

// atWork returns how many workers have something to do, and whether the hasher
// still has bytes of an earlier pull to compare.
func (s *scheduler) atWork() (running int, rereading bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running, s.untrustedUnits > 0
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
