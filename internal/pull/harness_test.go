package pull

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// objectSize makes several leases and an odd last unit. It is a multiple of 4 KiB, as
// disks are, so that nobody has to ask for the last bytes by themselves.
const objectSize = 13<<20 + 12<<10

// openStore opens a fresh store that retries soon and gives up soon, and checks its
// invariants when the test ends.
func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), t.TempDir(), OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.delay = func(attempt int, wish time.Duration) time.Duration { return backoff(attempt, wish, 1) / 100 }
	s.endurance = time.Second
	s.patience, s.suspicion = time.Minute, time.Minute // or a loaded machine would make servers look slow
	t.Cleanup(func() {
		checkStore(t, s.root.path)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// checkStore checks what must hold whenever no pull runs: every name under
// blobs/ stands over the bytes it names, and nothing unfinished is left but what a
// journal vouches for, with the bytes that it vouches for.
func checkStore(t *testing.T, root string) {
	t.Helper()
	checkBlobs(t, root)
	for _, name := range entries(t, filepath.Join(root, "partial")) {
		if j := journalOf(t, root, name); j == nil {
			t.Errorf("partial/%s is left", name)
		}
	}
	for _, name := range entries(t, filepath.Join(root, "images")) {
		if strings.HasPrefix(name, tempPrefix) {
			t.Errorf("images/%s is left", name)
		}
	}
}

// journalOf returns what the journal of a partial pull vouches for, or nil when
// there is none, and checks that the data file holds just that.
func journalOf(t *testing.T, root, key string) *journal {
	t.Helper()
	d, err := openRoot(filepath.Join(root, "partial", key))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.close() }()
	j, f, err := readJournal(d)
	if err != nil {
		return nil
	}
	_ = f.Close()
	data, st, err := d.openRegular(dataFile)
	if err != nil {
		return nil // published
	}
	defer func() { _ = data.Close() }()
	if j.key != key || fileIDOf(st) != j.file {
		t.Errorf("the journal of %s is of %s and another file", key, j.key)
	}
	buf := make([]byte, unitSize)
	for unit := range j.crcs {
		at := j.unitSpan(unit)
		if !j.has(unit) {
			continue
		}
		if _, err := data.ReadAt(buf[:at.len()], at.start); err != nil || crc32.Checksum(buf[:at.len()], castagnoli) != j.crcs[unit] {
			t.Errorf("the journal vouches for unit %d, which holds something else, %v", unit, err)
		}
	}
	return j
}

// checkBlobs checks the invariant that holds at every moment.
func checkBlobs(t *testing.T, root string) {
	t.Helper()
	for _, name := range entries(t, filepath.Join(root, "blobs", "sha256")) {
		path := filepath.Join(root, "blobs", "sha256", name)
		if got := fileDigest(t, path); got != digestPrefix+name {
			t.Errorf("blob %s has the digest %s", name, got)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode() != blobMode {
			t.Errorf("blob %s: mode %v, %v", name, info.Mode(), err)
		}
	}
}

func entries(t *testing.T, path string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range list {
		names = append(names, entry.Name())
	}
	return names
}

func fileDigest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return digestPrefix + hex.EncodeToString(h.Sum(nil))
}

// wantReason fails the test unless err carries a reason; "" is success.
func wantReason(t *testing.T, err error, want Reason) {
	t.Helper()
	if reasonOf(err) != want || err != nil && want == "" {
		t.Fatalf("error %v has the reason %q, want %q", err, reasonOf(err), want)
	}
}

func mustPull(t *testing.T, s *Store, r Request) Result {
	t.Helper()
	result, err := s.Pull(t.Context(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// plant puts bytes where the blob of a digest would be.
func plant(t *testing.T, s *Store, digest string, p []byte, mode fs.FileMode) string {
	t.Helper()
	path := s.blobs.join(strings.TrimPrefix(digest, digestPrefix))
	if err := os.WriteFile(path, p, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// cancelWhen returns a context that a pull's progress ends.
func cancelWhen(ctx context.Context, reached func(Progress) bool) (context.Context, func(Progress), context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, func(p Progress) {
		if reached(p) {
			cancel()
		}
	}, cancel
}

var _ pulltest.Content = pulltest.Generated(0)
