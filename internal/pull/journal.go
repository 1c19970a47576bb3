package pull

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
)

const (
	// journalMagic begins every slot; another layout is another number.
	journalMagic = "cloudimage-journal 1\n"
	// slotAlign is what a slot's place and size are multiples of, in bytes: the
	// largest piece that disks in use write as a whole.
	slotAlign = 4 << 10
	// journalMost is the largest object that is journaled, in bytes; its slot has
	// 17 MiB. Larger ones are pulled without a journal.
	journalMost = 4 << 40
	// fieldMost bounds a text in a slot, in bytes.
	fieldMost = 1 << 10
	// journalFixed is what the fields of fixed size take of a slot, in bytes.
	journalFixed = len(journalMagic) + 4 + 6*8 + 3*2 + sha256.Size
)

// errNoJournal: the bytes are no slot of a journal that this version wrote
// completely.
var errNoJournal = errors.New("not a complete journal of this version")

// fileID tells whether a data file is the one that a journal vouches for.
type fileID struct {
	dev, ino uint64
	size     int64 // bytes
}

// journal is what one slot says: which units of a data file are on stable
// storage, and of which representation they are.
type journal struct {
	generation uint64 // counts the slots written for a file, from 1
	key        string // of the job, as workKey has it
	validator  validator
	total      int64 // bytes of the object
	file       fileID
	done       []uint64  // as in unitMap
	crcs       []uint32  // as in unitMap; 0 for units that are not done
	from       []edition // as in unitMap; nil when all came under the validator
}

// slotSize returns the size of a slot for an object of total bytes. It depends on
// nothing else, so that both slots have their places for good.
func slotSize(total int64) int64 {
	units := int64(unitsOf(total))
	return roundUp(int64(journalFixed)+3*fieldMost+roundUp(units, 64)/8+4*units, slotAlign)
}

// journalable reports whether a journal can hold the object and what identifies it.
func journalable(key string, o object) bool {
	return o.total > 0 && o.total <= journalMost &&
		max(len(key), len(o.validator.etag), len(o.validator.lastModified)) <= fieldMost
}

// encode returns the slot: the magic, the length of what the checksum covers, the
// fields in network byte order, the SHA-256 of all that, perhaps a list of
// editions, and zeros.
func (j *journal) encode() []byte {
	slot := make([]byte, 0, slotSize(j.total))
	slot = append(slot, journalMagic...)
	slot = binary.BigEndian.AppendUint32(slot, 0) // the length, known at the end
	for _, number := range []uint64{j.generation, uint64(j.total), j.file.dev, j.file.ino, uint64(j.file.size), uint64(len(j.crcs))} {
		slot = binary.BigEndian.AppendUint64(slot, number)
	}
	for _, text := range []string{j.key, j.validator.etag, j.validator.lastModified} {
		slot = binary.BigEndian.AppendUint16(slot, uint16(len(text)))
		slot = append(slot, text...)
	}
	for _, word := range j.done {
		slot = binary.BigEndian.AppendUint64(slot, word)
	}
	for _, crc := range j.crcs {
		slot = binary.BigEndian.AppendUint32(slot, crc)
	}
	binary.BigEndian.PutUint32(slot[len(journalMagic):], uint32(len(slot)))
	sum := sha256.Sum256(slot)
	slot = j.appendEditions(append(slot, sum[:]...))
	return slot[:cap(slot)] // zeros from make
}

// decodeJournal reads a slot. Whatever was not written as a whole by this version
// is errNoJournal: nothing in it can be believed, and nothing has to be, since
// the bytes can be fetched again.
func decodeJournal(slot []byte) (*journal, error) {
	r := slotReader{rest: slot}
	if string(r.take(len(journalMagic))) != journalMagic {
		return nil, errNoJournal
	}
	length := int(r.uint32())
	if length > len(slot)-sha256.Size || length < journalFixed-sha256.Size {
		return nil, errNoJournal
	}
	if sum := sha256.Sum256(slot[:length]); string(sum[:]) != string(slot[length:length+sha256.Size]) {
		return nil, errNoJournal
	}
	r.rest = slot[len(journalMagic)+4 : length]
	j := &journal{generation: r.uint64(), total: int64(r.uint64())}
	j.file = fileID{dev: r.uint64(), ino: r.uint64(), size: int64(r.uint64())}
	units := r.uint64()
	j.key, j.validator.etag, j.validator.lastModified = r.text(), r.text(), r.text()
	if j.total <= 0 || j.total > journalMost || units != uint64(unitsOf(j.total)) {
		return nil, errNoJournal
	}
	if words := int(units+63) / 64; len(r.rest) != words*8+int(units)*4 {
		return nil, errNoJournal
	}
	for range (units + 63) / 64 {
		j.done = append(j.done, r.uint64())
	}
	for range units {
		j.crcs = append(j.crcs, r.uint32())
	}
	if !j.plausible(int64(len(slot))) {
		return nil, errNoJournal
	}
	end := length + sha256.Size
	j.from = j.readEditions(slot[length:end], slot[end:])
	return j, nil
}

// plausible checks what the checksum cannot: that the writer meant this.
func (j *journal) plausible(slot int64) bool {
	beyond := uint64(0)
	if used := len(j.crcs) % 64; used > 0 {
		beyond = j.done[len(j.done)-1] >> used
	}
	return slot == slotSize(j.total) && j.generation > 0 && j.key != "" && j.file.size == j.total && beyond == 0
}

// slotReader cuts fields off a slot; what is not there reads as zero.
type slotReader struct{ rest []byte }

func (r *slotReader) take(n int) []byte {
	if n > len(r.rest) {
		r.rest = nil
		return make([]byte, n)
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *slotReader) uint32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }
func (r *slotReader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }
func (r *slotReader) text() string {
	return string(r.take(int(binary.BigEndian.Uint16(r.take(2)))))
}

// latestJournal returns the newest of the two slots of a journal file. A slot
// that was being written when the machine stopped is none; the other one stands.
func latestJournal(file []byte) (*journal, error) {
	if len(file) == 0 || len(file)%(2*slotAlign) != 0 {
		return nil, errNoJournal
	}
	var latest *journal
	for slot := range slices.Chunk(file, len(file)/2) {
		if j, err := decodeJournal(slot); err == nil && (latest == nil || j.generation > latest.generation) {
			latest = j
		}
	}
	if latest == nil {
		return nil, errNoJournal
	}
	return latest, nil
}

// has reports whether the journal vouches for a unit.
func (j *journal) has(unit int) bool { return j.done[unit/64]&(1<<(unit%64)) != 0 }

// forget makes the journal vouch for a unit no longer.
func (j *journal) forget(unit int) { j.done[unit/64] &^= 1 << (unit % 64) }

// unitSpan returns where a unit of the object lies.
func (j *journal) unitSpan(unit int) span {
	start := int64(unit) * unitSize
	return span{start, min(start+unitSize, j.total)}
}

// vouched returns the bytes of all units that the journal vouches for.
func (j *journal) vouched() int64 {
	units := 0
	for _, word := range j.done {
		units += bits.OnesCount64(word)
	}
	if units == 0 {
		return 0
	}
	sum := int64(units) * unitSize
	if last := len(j.crcs) - 1; j.has(last) {
		sum -= unitSize - j.unitSpan(last).len()
	}
	return sum
}

// gaps returns the parts of the object that the journal does not vouch for, in
// order, none longer than most bytes, which is a multiple of the unit.
func (j *journal) gaps(most int64) []span {
	var gaps []span
	for unit := range j.crcs {
		if j.has(unit) {
			continue
		}
		at := j.unitSpan(unit)
		if last := len(gaps) - 1; last >= 0 && gaps[last].end == at.start && gaps[last].len() < most {
			gaps[last].end = at.end
		} else {
			gaps = append(gaps, at)
		}
	}
	return gaps
}
