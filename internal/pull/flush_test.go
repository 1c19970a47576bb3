package pull

import (
	"context"
	"os"
	"testing"
	"testing/synctest"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

func TestCheckpointInterval(t *testing.T) {
	t.Parallel()
	for total, want := range map[int64]int64{1: 16 << 20, 1 << 30: 16 << 20, 2 << 30: 32 << 20, 8 << 30: 128 << 20, 1 << 40: 256 << 20} {
		if got := checkpointInterval(total); got != want {
			t.Errorf("of %d bytes %d may be lost, want %d", total, got, want)
		}
	}
}

func TestJoined(t *testing.T) {
	t.Parallel()
	got := joined([]span{{8, 9}, {1, 2}, {2, 4}, {5, 6}, {4, 5}})
	if diff := cmp.Diff([]span{{1, 6}, {8, 9}}, got, cmpJournal); diff != "" {
		t.Error(diff)
	}
	if got := joined(nil); len(got) != 0 {
		t.Errorf("nothing became %v", got)
	}
}

// TestDirtyBytesAreBounded writes units that nobody flushes.
func TestDirtyBytesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var f flusher
		f.start(&transfer{work: &workFile{store: &Store{step: func(string) {}}}})
		written := 0
		go func() {
			for unit := range 2 * dirtyMost / unitSize {
				f.wrote(heldUnit{unit: unit, size: unitSize})
				written++
			}
		}()
		for _, want := range []int{dirtyMost / unitSize, dirtyMost/unitSize + 10} {
			synctest.Wait()
			if written != want {
				t.Errorf("%d units were written, want %d", written, want)
			}
			f.settle(10 * unitSize)
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = f.run(ctx) // whose end lets everybody go
		synctest.Wait()
		if written != 2*dirtyMost/unitSize {
			t.Errorf("%d units were written after the flusher's end", written)
		}
	})
}

// TestFlusherDropsWhatIsHashed drops a part of a file while it is still being written.
func TestFlusherDropsWhatIsHashed(t *testing.T) {
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
	skipWithoutPageCache(t, work.dir)
	if _, err := work.file.WriteAt(make([]byte, 2*dropPiece), 0); err != nil {
		t.Fatal(err)
	}
	var f flusher
	f.start(&transfer{work: work})
	for _, tt := range []struct{ hashed, least, most int64 }{
		{dropPiece - 1, 2 * dropPiece, 2 * dropPiece}, // too little to be worth a call
		{dropPiece, dropPiece - dropPiece/8, dropPiece + dropPiece/8},
		{2 * dropPiece, 0, dropPiece / 8},
	} {
		f.hashedTo(tt.hashed)
		if err := f.drop(); err != nil {
			t.Fatal(err)
		}
		if got := resident(t, work.file.Name()); got < tt.least || got > tt.most {
			t.Errorf("%d bytes are hashed and %d in the page cache, want %d to %d", tt.hashed, got, tt.least, tt.most)
		}
	}
}

func skipWithoutPageCache(t *testing.T, d *dir) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(d.fd(), &fs); err != nil || fs.Type == unix.TMPFS_MAGIC {
		t.Skip("a filesystem that is all page cache", err)
	}
}

// TestPageCacheIsLeftToOthers looks at what the page cache holds of a blob.
func TestPageCacheIsLeftToOthers(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	s := openStore(t)
	skipWithoutPageCache(t, s.root)
	result, err := s.Pull(t.Context(), Request{URL: pulltest.New(t, pulltest.Generated(size)).URL, Format: FormatOpaque}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if most := resident(t, result.Path); most > size/8 {
		t.Errorf("the page cache holds %d MiB of the blob", most>>20)
	}
}

// resident returns how many bytes of a file the page cache holds.
func resident(t *testing.T, path string) (bytes int64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(mapped) }()
	pages := make([]byte, (len(mapped)+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&mapped[0])), uintptr(len(mapped)), uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for _, page := range pages {
		bytes += int64(page&1) * int64(os.Getpagesize())
	}
	return bytes
}
