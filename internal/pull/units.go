package pull

import (
	"fmt"
	"math/bits"
)

// unitSize is the grain of progress: a unit of the file is either committed or
// it is not there. 1 MiB keeps the map of a 20 GiB object at 246 kB.
const unitSize = 1 << 20

// unitMap is the set of committed units of an object, with the CRC-32C of each
// as its bytes arrived, and where they came from. It grows while the size is unknown. It is not safe for
// concurrent use.
type unitMap struct {
	total     int64 // bytes of the object; -1 while unknown
	done      []uint64
	crcs      []uint32
	from      []edition // of each
	frontier  int       // the first unit that is not committed
	committed int64     // bytes of all committed units
}

// newUnitMap returns the empty map of an object of total bytes, -1 when unknown.
func newUnitMap(total int64) *unitMap {
	m := &unitMap{total: total}
	if total > 0 {
		m.grow(unitsOf(total))
	}
	return m
}

// unitsOf returns how many units an object of size bytes has.
func unitsOf(size int64) int { return int((size + unitSize - 1) / unitSize) }

func (m *unitMap) grow(units int) {
	for len(m.crcs) < units {
		m.crcs, m.from = append(m.crcs, 0), append(m.from, 0)
	}
	for len(m.done)*64 < units {
		m.done = append(m.done, 0)
	}
}

// sizeOf returns the bytes of a unit of an object whose size is known.
func (m *unitMap) sizeOf(unit int) int64 {
	return min(unitSize, m.total-int64(unit)*unitSize)
}

// finish fixes the size of an object that was unknown until its stream ended.
func (m *unitMap) finish(total int64) { m.total = total }

// has reports whether a unit is committed.
func (m *unitMap) has(unit int) bool {
	return unit < len(m.crcs) && m.done[unit/64]&(1<<(unit%64)) != 0
}

// commit records that size bytes of a unit are on disk with this checksum. A
// unit commits once.
func (m *unitMap) commit(unit int, size int64, crc uint32) error {
	if m.total >= 0 && unit >= unitsOf(m.total) {
		return fmt.Errorf("unit %d is beyond the object's %d bytes", unit, m.total)
	}
	m.grow(unit + 1)
	if m.has(unit) {
		return fmt.Errorf("unit %d is committed twice", unit)
	}
	m.done[unit/64] |= 1 << (unit % 64)
	m.crcs[unit] = crc
	m.committed += size
	if unit == m.frontier {
		m.advance()
	}
	return nil
}

// revoke takes back the commit of a unit of size bytes.
func (m *unitMap) revoke(unit int, size int64) {
	m.done[unit/64] &^= 1 << (unit % 64)
	m.crcs[unit] = 0
	m.committed -= size
	m.frontier = min(m.frontier, unit)
}

// advance moves the frontier over every committed unit.
func (m *unitMap) advance() {
	for m.frontier < len(m.crcs) {
		rest := ^m.done[m.frontier/64] >> (m.frontier % 64)
		if rest != 0 {
			m.frontier += bits.TrailingZeros64(rest)
			if m.frontier < len(m.crcs) {
				return
			}
			break
		}
		m.frontier += 64 - m.frontier%64
	}
	m.frontier = min(m.frontier, len(m.crcs))
}

// frontierBytes returns up to where the file is whole, in bytes.
func (m *unitMap) frontierBytes() int64 {
	at := int64(m.frontier) * unitSize
	if m.total >= 0 {
		at = min(at, m.total)
	}
	return at
}

// complete reports whether the size is known and every unit is committed.
func (m *unitMap) complete() bool { return m.total >= 0 && m.frontier == unitsOf(m.total) }
