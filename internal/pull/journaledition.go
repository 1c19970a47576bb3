package pull

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// Behind a slot's checksum, where older versions read nothing and newer ones know
// that it may be missing, a slot says where its units came from if not all of
// them came under its validator:
//
//	the length of the list, in two bytes;
//	the list: how many editions, each edition in eight bytes, and then for each run
//	of units how many they are and which edition they have, counted from 0;
//	the SHA-256 of the slot's own checksum and all that.
//
// A list that finds no room is left out. It is a hint: without it, more is fetched
// again when the digest does not match.

// editions returns the edition of each unit.
func (j *journal) editions() []edition {
	if j.from != nil {
		return slices.Clone(j.from)
	}
	return slices.Repeat([]edition{j.validator.edition()}, len(j.crcs))
}

// plain reports whether all units that the journal vouches for came under its validator.
func (j *journal) plain() bool {
	usual := j.validator.edition()
	for unit, from := range j.from {
		if from != usual && j.has(unit) {
			return false
		}
	}
	return true
}

// appendEditions writes the list behind the checksum that ends the slot so far.
func (j *journal) appendEditions(slot []byte) []byte {
	if j.plain() {
		return slot
	}
	list := j.listEditions()
	if len(list) > 1<<16-1 || len(slot)+2+len(list)+sha256.Size > cap(slot) {
		return slot
	}
	sum := slices.Clone(slot[len(slot)-sha256.Size:])
	begin := len(slot)
	slot = binary.BigEndian.AppendUint16(slot, uint16(len(list)))
	slot = append(slot, list...)
	check := sha256.Sum256(append(sum, slot[begin:]...))
	return append(slot, check[:]...)
}

func (j *journal) listEditions() (list []byte) {
	var table []edition
	var runs []byte
	for unit := 0; unit < len(j.crcs); {
		from, end := j.run(unit)
		place := slices.Index(table, from)
		if place < 0 {
			place, table = len(table), append(table, from)
		}
		runs = binary.AppendUvarint(runs, uint64(end-unit))
		runs = binary.AppendUvarint(runs, uint64(place))
		unit = end
	}
	list = binary.AppendUvarint(nil, uint64(len(table)))
	for _, from := range table {
		list = binary.BigEndian.AppendUint64(list, uint64(from))
	}
	return append(list, runs...)
}

// run returns up to where units have one edition. One that is not there yet has
// that of its neighbours.
func (j *journal) run(unit int) (from edition, end int) {
	known := false
	for end = unit; end < len(j.crcs); end++ {
		switch {
		case !j.has(end):
		case !known:
			from, known = j.from[end], true
		case j.from[end] != from:
			return from, end
		}
	}
	return from, end
}

// readEditions reads the list behind a slot's checksum, or nil when there is none
// that was written as a whole.
func (j *journal) readEditions(sum, rest []byte) []edition {
	r := slotReader{rest: rest}
	length := int(binary.BigEndian.Uint16(r.take(2)))
	if length == 0 || len(r.rest) < length+sha256.Size {
		return nil
	}
	check := sha256.Sum256(slices.Concat(sum, rest[:2+length]))
	if string(check[:]) != string(rest[2+length:2+length+sha256.Size]) {
		return nil
	}
	r.rest = r.rest[:length]
	table := make([]edition, min(r.uvarint(), uint64(length/8)))
	for i := range table {
		table[i] = edition(r.uint64())
	}
	var from []edition
	for len(r.rest) > 0 {
		units, place := r.uvarint(), r.uvarint()
		if units == 0 || units > uint64(len(j.crcs)-len(from)) || place >= uint64(len(table)) {
			return nil
		}
		from = append(from, slices.Repeat(table[place:place+1], int(units))...)
	}
	if len(from) != len(j.crcs) {
		return nil
	}
	return from
}

// uvarint reads a number of variable length; 0 for what is none.
func (r *slotReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.rest = nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}
