package pull

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// The journals in testdata were written by the first release, with a digest and
// without, and never again. They vouch for a part of an object of goldenSize bytes.
const (
	goldenSize    = 41<<20 + 12345
	goldenVouched = 26 << 20
)

func golden(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestGoldenJournals reads what the first release wrote, and writes the same.
func TestGoldenJournals(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{
		"journal-by-digest": strings.TrimPrefix(pulltest.Digest(pulltest.Random(1, goldenSize)), digestPrefix), "journal-by-url": "url-",
	} {
		text := golden(t, name)
		j, err := latestJournal(text)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(j.key, key) || j.total != goldenSize || j.vouched() != goldenVouched || j.validator != (validator{etag: pulltest.DefaultETag}) || !j.plain() {
			t.Errorf("%s: %+v", name, j)
		}
		if !bytes.Contains(text, j.encode()) {
			t.Errorf("%s is written otherwise now", name)
		}
	}
}

// TestGoldenJournalsResume resumes from them, once they name the data file of this
// machine and the URL of this test's server.
func TestGoldenJournalsResume(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, goldenSize)
	for name, digest := range map[string]string{"journal-by-digest": pulltest.Digest(object), "journal-by-url": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			r := Request{URL: pulltest.New(t, object).URL, Digest: digest, ImageName: "disk", Format: FormatRaw}
			plantGolden(t, s, r, golden(t, name), object)
			result := mustPull(t, s, r)
			if result.ResumedBytes != goldenVouched || result.TransferredBytes != goldenSize-goldenVouched {
				t.Errorf("result %+v", result)
			}
			checkResumed(t, s, result, object)
		})
	}
}

// plantGolden makes the partial data of a request of a journal and the units that
// it vouches for.
func plantGolden(t *testing.T, s *Store, r Request, text []byte, object pulltest.Content) {
	t.Helper()
	checked, err := newJob(r)
	if err != nil {
		t.Fatal(err)
	}
	work, err := s.newWork(workKey(checked))
	if err != nil {
		t.Fatal(err)
	}
	if err := work.file.Truncate(object.Size()); err != nil {
		t.Fatal(err)
	}
	j, err := latestJournal(text)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, unitSize)
	for unit := range j.crcs {
		if at := j.unitSpan(unit); j.has(unit) {
			if _, err := object.ReadAt(buf[:at.len()], at.start); err != nil {
				t.Fatal(err)
			}
			if _, err := work.file.WriteAt(buf[:at.len()], at.start); err != nil {
				t.Fatal(err)
			}
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(work.file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	half := len(text) / 2
	for _, slot := range [][]byte{text[:half], text[half:]} {
		if _, err := decodeJournal(slot); err != nil {
			continue // there was one checkpoint only
		}
		binary.BigEndian.PutUint64(slot[len(journalMagic)+4+2*8:], uint64(st.Dev))
		binary.BigEndian.PutUint64(slot[len(journalMagic)+4+3*8:], st.Ino)
		copy(slot[len(journalMagic)+4+6*8+2:], workKey(checked)) // as long as the key that was there
		length := binary.BigEndian.Uint32(slot[len(journalMagic):])
		sum := sha256.Sum256(slot[:length])
		copy(slot[length:], sum[:])
	}
	write(t, work.dir.join(journalFile), string(text))
	if err := work.close(); err != nil {
		t.Fatal(err)
	}
}

// TestJournalEditions keeps where units came from behind a slot's checksum, and
// believes nothing of it that was damaged.
func TestJournalEditions(t *testing.T) {
	t.Parallel()
	a, b := newEdition(`"v1"`), newEdition(`"v2"`)
	j := journalOfUnits(200*unitSize+5, 0, 1, 63, 64, 150, 200)
	usual := j.encode()
	j.from = make([]edition, len(j.crcs))
	for unit, from := range map[int]edition{0: a, 1: a, 63: b, 64: mixedEdition, 150: b, 200: a} {
		j.from[unit] = from
	}
	slot := j.encode()
	got, err := decodeJournal(slot)
	if err != nil {
		t.Fatal(err)
	}
	for unit := range j.crcs {
		if j.has(unit) && got.from[unit] != j.from[unit] {
			t.Errorf("unit %d is of %x, want %x", unit, got.from[unit], j.from[unit])
		}
	}
	length := int(binary.BigEndian.Uint32(slot[len(journalMagic):])) + sha256.Size
	if !bytes.Equal(slot[:length], usual[:length]) {
		t.Error("an older version reads another journal")
	}
	want := *j
	want.from = nil
	for at := length; at < length+100; at++ {
		damaged := bytes.Clone(slot)
		damaged[at] ^= 0x40
		got, err := decodeJournal(damaged)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(damaged, slot) || got.from != nil && at < length+2+3*8 {
			t.Fatalf("byte %d was flipped and nobody noticed", at)
		}
		if got.from == nil {
			if diff := cmp.Diff(&want, got, cmpJournal); diff != "" {
				t.Fatal(diff)
			}
		}
	}
}

// TestJournalWithTooManyEditions leaves the list out, and nothing else.
func TestJournalWithTooManyEditions(t *testing.T) {
	t.Parallel()
	units := make([]int, 3000)
	for unit := range units {
		units[unit] = unit
	}
	j := journalOfUnits(3000*unitSize, units...)
	for unit := range units {
		j.from = append(j.from, edition(unit+1))
	}
	got, err := decodeJournal(j.encode())
	if err != nil || got.from != nil || got.vouched() != j.vouched() {
		t.Errorf("%v; %+v", err, got)
	}
}
