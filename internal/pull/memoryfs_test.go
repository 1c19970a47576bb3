package pull

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestWritesThatAreNotSeen changes a blob on a filesystem in memory through a mapping
// that was made before it was hashed, which moves none of the file's times.
func TestWritesThatAreNotSeen(t *testing.T) {
	t.Parallel()
	const memory = "/dev/shm"
	var fs unix.Statfs_t
	if err := unix.Statfs(memory, &fs); err != nil || !hidesWrites(fs) {
		t.Skipf("%s is no filesystem in memory here (%v)", memory, err)
	}
	path, err := os.MkdirTemp(memory, "cloudimage-test-") //nolint:usetesting // t.TempDir is on a disk
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(path) })
	var said bytes.Buffer
	s := openAt(t, filepath.Join(path, "store"), OpenOptions{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if !strings.Contains(said.String(), "filesystem in memory") {
		t.Errorf("nothing is said of the filesystem: %s", &said)
	}
	object := pulltest.Random(1, 1<<20)
	r := Request{URL: pulltest.New(t, object).URL, Digest: pulltest.Digest(object), ImageName: "disk"}
	mustPull(t, s, r)
	blob := mapFile(t, onlyBlob(s.root.path))
	blob[0]++ // the first write to a page is seen
	blob[0]--
	if _, err := s.Adopt(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	before := identityAt(t, onlyBlob(s.root.path))
	blob[0] ^= 1
	if now := identityAt(t, onlyBlob(s.root.path)); now != before {
		t.Skip("this kernel shows the write") // then the file is hashed again anyway
	}
	if _, err := s.Adopt(t.Context(), r); !errors.Is(err, ErrNotPresent) {
		t.Errorf("a changed blob was adopted: %v", err)
	}
}

// mapFile maps a file for writing, as a process does that had it open before.
func mapFile(t *testing.T, path string) []byte {
	t.Helper()
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	data, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(data) })
	if err := os.Chmod(path, blobMode); err != nil {
		t.Fatal(err)
	}
	return data
}

func identityAt(t *testing.T, path string) identity {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return identityOf(st)
}
