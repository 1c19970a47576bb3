package pull

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var cmpJournal = cmp.AllowUnexported(journal{}, validator{}, fileID{}, span{})

// journalOfUnits is a journal of an object of total bytes that vouches for some units.
func journalOfUnits(total int64, units ...int) *journal {
	m := newUnitMap(total)
	for _, unit := range units {
		m.done[unit/64] |= 1 << (unit % 64)
		m.crcs[unit] = uint32(unit) * 0x01010101
	}
	return &journal{
		generation: 7, key: strings.Repeat("a", sha256Digits), validator: validator{etag: `"v1"`}, total: total,
		file: fileID{dev: 1, ino: 2, size: total}, done: m.done, crcs: m.crcs,
	}
}

func TestJournalRoundTrip(t *testing.T) {
	t.Parallel()
	url := journalOfUnits(200*unitSize+5, 0, 1, 63, 64, 150, 200)
	url.key, url.validator = "url-x", validator{lastModified: "Fri, 01 May 2020 11:00:00 GMT"}
	for name, want := range map[string]*journal{
		"one byte":         journalOfUnits(1, 0),
		"nothing done":     journalOfUnits(64 * unitSize),
		"by URL":           url,
		"20 GiB":           journalOfUnits(20<<30, 0, 20<<10-1),
		"the longest text": {generation: 1, key: strings.Repeat("k", fieldMost), validator: validator{etag: strings.Repeat("e", fieldMost)}, total: 1, file: fileID{size: 1}, done: []uint64{1}, crcs: []uint32{9}},
	} {
		slot := want.encode()
		if int64(len(slot)) != slotSize(want.total) || len(slot)%slotAlign != 0 {
			t.Errorf("%s: a slot of %d bytes", name, len(slot))
		}
		got, err := decodeJournal(slot)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got, cmpJournal); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestJournalBelievesNothingDamaged flips and cuts every region of a slot.
func TestJournalBelievesNothingDamaged(t *testing.T) {
	t.Parallel()
	slot := journalOfUnits(200*unitSize+5, 0, 1, 63, 150).encode()
	length := int(binary.BigEndian.Uint32(slot[len(journalMagic):]))
	for at := range length + sha256.Size {
		damaged := bytes.Clone(slot)
		damaged[at] ^= 0x40
		if _, err := decodeJournal(damaged); err == nil {
			t.Fatalf("byte %d was flipped and nobody noticed", at)
		}
	}
	for _, size := range []int{0, 1, len(journalMagic), length, length + sha256.Size - 1, length + sha256.Size, slotAlign, len(slot) - 1} {
		if size == len(slot) {
			continue
		}
		if _, err := decodeJournal(slot[:size]); err == nil {
			t.Errorf("%d of %d bytes were believed", size, len(slot))
		}
	}
}

// TestJournalChecksWhatTheChecksumCannot signs slots that no writer means.
func TestJournalChecksWhatTheChecksumCannot(t *testing.T) {
	t.Parallel()
	sign := func(slot []byte) []byte {
		length := binary.BigEndian.Uint32(slot[len(journalMagic):])
		sum := sha256.Sum256(slot[:length])
		copy(slot[length:], sum[:])
		return slot
	}
	number := func(field int, value uint64) func([]byte) []byte {
		return func(slot []byte) []byte {
			binary.BigEndian.PutUint64(slot[len(journalMagic)+4+8*field:], value)
			return sign(slot)
		}
	}
	length := func(n uint32) func([]byte) []byte {
		return func(slot []byte) []byte {
			binary.BigEndian.PutUint32(slot[len(journalMagic):], n)
			return slot
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"an older version": func(slot []byte) []byte {
			copy(slot, "cloudimage-journal 0\n")
			return sign(slot)
		},
		"generation 0":               number(0, 0),
		"total 0":                    number(1, 0),
		"a negative total":           number(1, 1<<63),
		"a total of more units":      number(1, 300*unitSize),
		"a total of less units":      number(1, 100*unitSize),
		"a total beyond the largest": number(1, journalMost+1),
		"another size of the file":   number(4, 5),
		"no units":                   number(5, 0),
		"too many units":             number(5, 1<<60),
		"a unit beyond the end": func(slot []byte) []byte {
			j := journalOfUnits(200 * unitSize)
			j.done[3] = 1 << 8 // unit 200
			return j.encode()
		},
		"no key": func([]byte) []byte {
			j := journalOfUnits(200 * unitSize)
			j.key = ""
			return j.encode()
		},
		"a length beyond the slot": length(1 << 30),
		"the largest length":       length(1<<32 - 1),
		"length 0":                 length(0),
		"a larger slot":            func(slot []byte) []byte { return append(slot, make([]byte, slotAlign)...) },
	} {
		if got, err := decodeJournal(change(journalOfUnits(200 * unitSize).encode())); err == nil {
			t.Errorf("%s was believed: %+v", name, got)
		}
	}
}

func TestLatestJournal(t *testing.T) {
	t.Parallel()
	slot := func(generation uint64) []byte {
		j := journalOfUnits(5*unitSize, 0)
		j.generation = generation
		return j.encode()
	}
	torn := slot(9)
	copy(torn[len(torn)/2:], make([]byte, len(torn)/2))
	copy(torn[:50], slot(8))
	empty := make([]byte, len(torn))
	for name, tt := range map[string]struct {
		file []byte
		want uint64 // generation; 0: none
	}{
		"both, the second newer": {append(slot(4), slot(5)...), 5},
		"both, the first newer":  {append(slot(6), slot(5)...), 6},
		"only the first":         {append(slot(2), empty...), 2},
		"only the second":        {append(bytes.Clone(empty), slot(1)...), 1},
		"the newer one torn":     {append(slot(8), torn...), 8},
		"both torn":              {append(bytes.Clone(torn), torn...), 0},
		"zeros":                  {append(bytes.Clone(empty), empty...), 0},
		"one slot only":          {slot(3), 0},
		"cut":                    {append(slot(4), slot(5)...)[:len(torn)+100], 0},
		"nothing":                {nil, 0},
	} {
		got, err := latestJournal(tt.file)
		if err != nil && tt.want != 0 || err == nil && got.generation != tt.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestJournalGaps(t *testing.T) {
	t.Parallel()
	const mib = unitSize
	tests := []struct {
		name    string
		journal *journal
		most    int64
		want    []span
		vouched int64
	}{
		{"nothing done", journalOfUnits(3*mib + 1), 100 * mib, []span{{0, 3*mib + 1}}, 0},
		{"all done", journalOfUnits(2*mib+1, 0, 1, 2), mib, nil, 2*mib + 1},
		{"holes", journalOfUnits(5*mib, 0, 2, 4), 100 * mib, []span{{mib, 2 * mib}, {3 * mib, 4 * mib}}, 3 * mib},
		{"long gaps in pieces", journalOfUnits(6*mib+1, 0), 2 * mib, []span{{mib, 3 * mib}, {3 * mib, 5 * mib}, {5 * mib, 6*mib + 1}}, mib},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, tt.journal.gaps(tt.most), cmpJournal); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		if got := tt.journal.vouched(); got != tt.vouched {
			t.Errorf("%s: it vouches for %d bytes, want %d", tt.name, got, tt.vouched)
		}
	}
}

func FuzzDecodeJournal(f *testing.F) {
	for _, j := range []*journal{journalOfUnits(1, 0), journalOfUnits(70*unitSize, 0, 69), journalOfUnits(5000*unitSize+1, 5000)} {
		slot := j.encode()
		f.Add(slot)
		f.Add(slot[:len(slot)/2])
		f.Add(append(bytes.Clone(slot), slot...))
	}
	f.Add([]byte(journalMagic))
	f.Fuzz(func(t *testing.T, slot []byte) {
		// The fuzzer cannot guess a checksum: give it one, so that it gets further.
		if at := len(journalMagic); len(slot) > at+4+sha256.Size {
			if length := int(binary.BigEndian.Uint32(slot[at:])); length <= len(slot)-sha256.Size && length > 0 {
				sum := sha256.Sum256(slot[:length])
				copy(slot[length:], sum[:])
			}
		}
		j, err := decodeJournal(slot)
		if err != nil {
			return
		}
		again, err := decodeJournal(j.encode())
		if err != nil {
			if max(len(j.key), len(j.validator.etag), len(j.validator.lastModified)) > fieldMost {
				return
			}
			t.Fatalf("what was decoded cannot be decoded again: %+v", j)
		}
		if diff := cmp.Diff(j, again, cmpJournal); diff != "" {
			t.Error(diff)
		}
		vouched := j.vouched()
		for _, gap := range j.gaps(unitSize) {
			vouched += gap.len()
		}
		if vouched != j.total {
			t.Errorf("%d bytes are vouched for or missing, of %d", vouched, j.total)
		}
	})
}
