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
	r := &reservation{space: s.space, file: f}
	for _, size := range []int64{5 << 20, 3 << 20} { // the second is less than there is
		if err := s.makeRoom(t.Context(), r, size); err != nil {
			t.Fatal(err)
		}
	}
	wantReason(t, s.makeRoom(t.Context(), r, 1<<60), InsufficientSpace)
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != 5<<20 || st.Blocks*512 < 5<<20 {
		t.Errorf("the file has %d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
}

// TestPromisesAreNotMadeTwice is for filesystems that cannot reserve.
func TestPromisesAreNotMadeTwice(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	reservations := make([]*reservation, 2)
	for i := range reservations {
		f, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		reservations[i] = &reservation{space: s.space, file: f}
	}
	const size = 1 << 30
	if err := reservations[0].promise(size); err != nil {
		t.Fatal(err)
	}
	if got := s.space.outstanding(); got != size {
		t.Errorf("%d bytes are outstanding, want %d", got, size)
	}
	if _, err := reservations[0].file.WriteAt(make([]byte, 1<<20), 0); err != nil { // what is written is owed no more
		t.Fatal(err)
	}
	if got := s.space.outstanding(); got > size-1<<20 {
		t.Errorf("%d bytes are outstanding after 1 MiB was written, want %d", got, size-1<<20)
	}
	_, available, err := s.space.measure()
	if err != nil {
		t.Fatal(err)
	}
	short, err := reservations[1].lacks(available - size/2) // other tests write meanwhile, but not so much
	if err != nil || short.fits() {
		t.Errorf("what is promised was there for another: %+v, %v", short, err)
	}
	reservations[0].release()
	if got := s.space.outstanding(); got != 0 {
		t.Errorf("%d bytes are outstanding after all is released", got)
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
