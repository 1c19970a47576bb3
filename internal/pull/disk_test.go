package pull

import (
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHasherComparesWithWhatArrived gives the hasher a file that is not what the
// workers wrote.
func TestHasherComparesWithWhatArrived(t *testing.T) {
	t.Parallel()
	unit := make([]byte, unitSize)
	right := crc32.Checksum(unit, castagnoli)
	tests := []struct {
		name   string
		damage func(*os.File) error
		want   Reason
	}{
		{"nothing", func(*os.File) error { return nil }, ""},
		{"a flipped bit", func(f *os.File) error { _, err := f.WriteAt([]byte{1}, unitSize+77); return err }, StorageError},
		{"a truncated file", func(f *os.File) error { return f.Truncate(unitSize + 77) }, StorageError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			work, err := openStore(t).newWork("key")
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := work.discard(); err != nil {
					t.Error(err)
				}
			}()
			transfer := &transfer{work: work, sched: newScheduler(2 * unitSize)}
			for i := range 2 {
				_, err := work.file.WriteAt(unit, int64(i)*unitSize)
				if err := errors.Join(err, transfer.sched.commit(heldUnit{unit: i, size: unitSize, crc: right})); err != nil {
					t.Fatal(err)
				}
			}
			if err := tt.damage(work.file); err != nil {
				t.Fatal(err)
			}
			_, err = transfer.hash(t.Context())
			wantReason(t, err, tt.want)
		})
	}
}

func TestReserve(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r, err := s.space.reserve(f, 5<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.extend(3 << 20); err != nil { // less than there is
		t.Fatal(err)
	}
	_, err = s.space.reserve(f, 1<<60)
	wantReason(t, err, InsufficientSpace)
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != 5<<20 || st.Blocks*512 < 5<<20 {
		t.Errorf("the file has %d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
}

// TestPromisesAreNotMadeTwice is for filesystems that cannot reserve.
func TestPromisesAreNotMadeTwice(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	available, err := s.space.available()
	if err != nil {
		t.Fatal(err)
	}
	most := available / 2 * 11 / 10 // twice that is more than there is, whatever other tests write
	reservations := make([]*reservation, 2)
	for i := range reservations {
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		reservations[i] = &reservation{space: s.space, file: f}
	}
	if err := reservations[0].promise(most); err != nil {
		t.Fatal(err)
	}
	wantReason(t, reservations[1].promise(most), InsufficientSpace)
	reservations[0].release()
	if err := reservations[1].promise(most); err != nil {
		t.Errorf("after the first was released: %v", err)
	}
}

func TestMoveNewReplacesNothing(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	ways := map[string]func(from *dir, old, name string) error{"rename": s.quarantine.moveNew, "link and unlink": s.quarantine.linkNew}
	for way, move := range ways {
		for name, text := range map[string]string{"old": way, "older": "x"} {
			write(t, s.root.join(name), text)
		}
		if err := move(s.root, "old", way); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		if err := move(s.root, "older", way); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s over a file: %v", way, err)
		}
		if text, err := os.ReadFile(s.quarantine.join(way)); err != nil || string(text) != way {
			t.Errorf("%s: the file holds %q, %v", way, text, err)
		}
		if _, err := os.Lstat(s.root.join("old")); err == nil {
			t.Errorf("%s left the old name", way)
		}
	}
}
