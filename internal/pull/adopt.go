package pull

import (
	"context"
	"slices"
)

// adopt makes the scheduler go on where a journal ends: what it vouches for is
// committed, though not trusted before the hasher compared it.
func (s *scheduler) adopt(j *journal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.units.done, s.units.crcs = slices.Clone(j.done), slices.Clone(j.crcs)
	s.units.from = j.editions()
	s.units.committed = j.vouched()
	s.units.advance()
	s.resumed = s.units.committed
	s.untrusted, s.earlier = slices.Clone(j.done), slices.Clone(j.done)
	for unit := range j.crcs {
		if j.has(unit) {
			s.untrustedUnits++
			s.unleased = j.unitSpan(unit).end
		}
	}
	s.changed.Broadcast() // the hasher waits already
}

// resume adopts a journal and makes leases of everything else. It returns that of
// the span that the first request asked for.
func (s *scheduler) resume(j *journal, asked span) *lease {
	s.adopt(j)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unleased = max(s.unleased, asked.end)
	for _, gap := range j.gaps(gapMost) {
		gap.start = max(gap.start, asked.end)
		if gap.start < gap.end && gap.end <= s.unleased {
			s.returned = append(s.returned, &lease{next: gap.start, end: gap.end})
		}
	}
	first := &lease{next: asked.start, end: asked.end}
	s.running++
	s.active = append(s.active, first)
	return first
}

// verdict is what the bytes of a unit on disk turn out to be.
type verdict int

const (
	unitRight  verdict = iota
	unitAgain          // an earlier pull left it and it changed; it is fetched again
	unitBroken         // this pull wrote it and the disk returns something else
)

// verify compares a committed unit's checksum with that of the bytes on disk.
func (s *scheduler) verify(unit int, crc uint32) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	right := s.units.crcs[unit] == crc
	if !s.suspect(unit) {
		if right {
			return unitRight
		}
		return unitBroken
	}
	s.untrusted[unit/64] &^= 1 << (unit % 64)
	s.untrustedUnits--
	if right {
		s.settle()
		return unitRight
	}
	s.earlier[unit/64] &^= 1 << (unit % 64)
	start := int64(unit) * unitSize
	again := &lease{next: start, end: min(start+unitSize, s.units.total)}
	s.units.revoke(unit, again.end-start)
	if !s.streaming {
		s.resumed -= again.end - start
		s.returned = append(s.returned, again)
	}
	s.changed.Broadcast()
	return unitAgain
}

// follow says that one response brings the whole object: nothing of an earlier
// pull saves its server anything.
func (s *scheduler) follow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streaming, s.resumed = true, 0
}

// trusted returns the checksum of a unit, and whether it is committed, once that
// does not rest on the word of an earlier pull alone. Everything before the unit
// has to be committed, or the hasher never gets there.
func (s *scheduler) trusted(ctx context.Context, unit int) (crc uint32, committed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.suspect(unit) {
		if err := s.wait(ctx); err != nil {
			return 0, false, err
		}
	}
	if !s.units.has(unit) {
		return 0, false, nil
	}
	return s.units.crcs[unit], true, nil
}

// suspect reports whether only an earlier pull vouches for a unit.
func (s *scheduler) suspect(unit int) bool {
	return unit/64 < len(s.untrusted) && s.untrusted[unit/64]&(1<<(unit%64)) != 0
}

// resumedBytes returns how many bytes an earlier pull contributed.
func (s *scheduler) resumedBytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resumed
}

// journal returns what is committed now, for a checkpoint.
func (s *scheduler) journal(v validator) *journal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &journal{validator: v, total: s.units.total, done: slices.Clone(s.units.done), crcs: slices.Clone(s.units.crcs), from: slices.Clone(s.units.from)}
}
