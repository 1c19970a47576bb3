package pull

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestClosedStoreIsFree while a child that is being started has a copy of every descriptor.
func TestClosedStoreIsFree(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	s, err := Open(t.Context(), path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := unix.Dup(int(s.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(inherited) }()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestRemoveBlobOfAKeptDigest(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	r := mustPull(t, s, Request{URL: pulltest.New(t, pulltest.Random(1, 1<<20)).URL, ImageName: "disk"})
	s.Keep([]string{r.Digest})
	if err := s.Unlink("disk"); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveBlob(r.Digest); !errors.Is(err, ErrReferenced) || !s.Contains(r.Digest, r.SizeBytes) {
		t.Errorf("a blob that an order wants: %v", err)
	}
	s.Keep(nil)
	if err := s.RemoveBlob(r.Digest); err != nil || s.Contains(r.Digest, 0) {
		t.Errorf("one that nobody wants: %v", err)
	}
}

func TestStoreIsHeldByOne(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	first, err := Open(t.Context(), path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), path, OpenOptions{})
	wantReason(t, err, StoreBusy)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, path, OpenOptions{Wait: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("a wait that is cancelled: %v", err)
	}
	opened := make(chan error)
	go func() {
		second, err := Open(t.Context(), path, OpenOptions{Wait: true})
		opened <- errors.Join(err, second.Close())
	}()
	select {
	case err := <-opened:
		t.Errorf("two stores at once: %v", err)
	case <-time.After(2 * lockPoll):
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-opened; err != nil {
		t.Error(err)
	}
}

// TestLockThatWasRemoved has a process wait for a lock whose file goes meanwhile:
// what it gets then is no lock of the store, which another process has opened.
func TestLockThatWasRemoved(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	first, err := Open(t.Context(), path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opened := make(chan *Store)
	go func() {
		s, _ := Open(ctx, path, OpenOptions{Wait: true}) // nil once ctx has ended
		opened <- s
	}()
	time.Sleep(2 * lockPoll)
	if err := errors.Join(os.Remove(filepath.Join(path, LockFile)), first.Close()); err != nil {
		t.Fatal(err)
	}
	third, err := Open(t.Context(), path, OpenOptions{})
	var second *Store
	select {
	case second = <-opened:
	case <-time.After(4 * lockPoll):
		cancel()
		second = <-opened
	}
	if (second != nil) == (third != nil) {
		t.Errorf("the one that waited holds the store: %t; the one that came later: %t, %v", second != nil, third != nil, err)
	}
	for _, s := range []*Store{second, third} {
		if s != nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		prepare func(t *testing.T, path string)
		say     string
	}{
		{"another directory", func(t *testing.T, path string) {
			t.Helper()
			write(t, filepath.Join(path, "notes.txt"), "x")
		}, "neither empty nor a store"},
		{"another layout", func(t *testing.T, path string) {
			t.Helper()
			write(t, filepath.Join(path, storeFile), "cloudimage-store 2\n")
		}, "cloudimage-store 2"},
		{"STORE as a link", func(t *testing.T, path string) {
			t.Helper()
			symlink(t, "/etc/hostname", filepath.Join(path, storeFile))
		}, "not a file of this store"},
		{"LOCK as a link", func(t *testing.T, path string) {
			t.Helper()
			symlink(t, "/tmp/planted", filepath.Join(path, LockFile))
		}, "LOCK"},
		{"blobs as a link", func(t *testing.T, path string) {
			t.Helper()
			s, err := Open(t.Context(), path, OpenOptions{})
			if err := errors.Join(err, s.Close(), os.RemoveAll(filepath.Join(path, "blobs"))); err != nil {
				t.Fatal(err)
			}
			symlink(t, t.TempDir(), filepath.Join(path, "blobs"))
		}, "blobs"},
		{"a file", func(t *testing.T, path string) {
			t.Helper()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			write(t, path, "x")
		}, "not a directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "store")
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			tt.prepare(t, path)
			_, err := Open(t.Context(), path, OpenOptions{})
			wantReason(t, err, StorageError)
			if !strings.Contains(err.Error(), tt.say) {
				t.Errorf("error %q, want it to say %q", err, tt.say)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// TestOpenAfterHalfARename is a power cut while the store was made.
func TestOpenAfterHalfARename(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	s, err := Open(t.Context(), path, OpenOptions{})
	name := filepath.Join(path, storeFile)
	if err := errors.Join(err, s.Close(), os.Link(name, name+tempPrefix)); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), path, OpenOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenDiscardsWhatWasLeft(t *testing.T) {
	t.Parallel()
	path, outside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "precious"), "x")
	s, err := Open(t.Context(), path, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "partial", "key", "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(path, "partial", "key", "data"), "half")
	symlink(t, outside, filepath.Join(path, "partial", "link"))
	symlink(t, outside, filepath.Join(path, "partial", "key", "deep", "link"))
	symlink(t, "x", filepath.Join(path, "images", tempPrefix+"1"))
	symlink(t, "x", filepath.Join(path, "images", "kept"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), path, OpenOptions{}); err != nil {
		t.Fatal(err)
	}
	checkStore(t, path)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := entries(t, filepath.Join(path, "images")); len(got) != 1 {
		t.Errorf("images: %v", got)
	}
	if got := entries(t, outside); len(got) != 1 {
		t.Error("what a planted link led to was removed")
	}
}

func TestAlreadyPresent(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 5<<20)
	server := pulltest.New(t, object)
	path := t.TempDir()
	request := Request{URL: server.URL, Digest: pulltest.Digest(object), ImageName: "first"}
	for open := range 2 { // the second time as a new process, which has verified nothing yet
		s, err := Open(t.Context(), path, OpenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			before := len(server.Log())
			result := mustPull(t, s, request)
			fresh := before == 0
			if result.AlreadyPresent == fresh || !fresh && len(server.Log()) != before {
				t.Errorf("open %d: %+v, %d requests", open, result, len(server.Log())-before)
			}
			if result.Digest != request.Digest || result.SizeBytes != object.Size() || result.Format != FormatRaw || !fresh && result.TransferredBytes != 0 {
				t.Errorf("result %+v", result)
			}
		}
		request.ImageName = "second"
		small, qcow2 := request, request
		small.MaxSize, qcow2.Format = 1000, FormatQcow2
		_, err = s.Pull(t.Context(), small, nil)
		wantReason(t, err, TooLarge)
		_, err = s.Pull(t.Context(), qcow2, nil)
		wantReason(t, err, UnsupportedContent)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"first", "second"} {
		if got := fileDigest(t, filepath.Join(path, "images", name)); got != request.Digest {
			t.Errorf("images/%s has the digest %s", name, got)
		}
	}
}

// TestPlanted pulls over everything that may lie where a blob should be.
func TestPlanted(t *testing.T) {
	t.Parallel()
	right := pulltest.RandomBytes(1, 5<<20)
	wrong := bytes.Clone(right)
	wrong[3<<20] ^= 1
	object := pulltest.Bytes(right)
	digest := pulltest.Digest(object)
	tests := []struct {
		name  string
		plant func(t *testing.T, blob, outside string)
		kept  bool // what was planted serves
	}{
		{"right bytes", func(t *testing.T, blob, _ string) {
			t.Helper()
			write(t, blob, string(right))
		}, true},
		{"wrong bytes of the right size", func(t *testing.T, blob, _ string) {
			t.Helper()
			write(t, blob, string(wrong))
		}, false},
		{"fewer bytes", func(t *testing.T, blob, _ string) {
			t.Helper()
			write(t, blob, string(right[:1<<20]))
		}, false},
		{"nothing in it", func(t *testing.T, blob, _ string) {
			t.Helper()
			write(t, blob, "")
		}, false},
		{"a link to right bytes", func(t *testing.T, blob, outside string) {
			t.Helper()
			symlink(t, outside, blob)
		}, false},
		{"a hard link to right bytes", func(t *testing.T, blob, outside string) {
			t.Helper()
			if err := os.Link(outside, blob); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"a dangling link", func(t *testing.T, blob, _ string) {
			t.Helper()
			symlink(t, "/nonexistent/x", blob)
		}, false},
		{"a directory", func(t *testing.T, blob, _ string) {
			t.Helper()
			if err := os.Mkdir(blob, 0o755); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"a pipe", func(t *testing.T, blob, _ string) {
			t.Helper()
			if err := unix.Mkfifo(blob, 0o644); err != nil {
				t.Fatal(err)
			}
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := pulltest.New(t, object)
			s := openStore(t)
			outside := filepath.Join(t.TempDir(), "outside")
			write(t, outside, string(right))
			blob := s.blobs.join(strings.TrimPrefix(digest, digestPrefix))
			tt.plant(t, blob, outside)
			for _, r := range []Request{{URL: server.URL, Digest: digest}, {URL: server.URL, Digest: digest}} {
				mustPull(t, s, r)
			}
			if kept := len(server.Log()) == 0; kept != tt.kept {
				t.Errorf("what was planted served: %t", kept)
			}
			if quarantined := len(entries(t, s.quarantine.path)); (quarantined == 1) == tt.kept {
				t.Errorf("%d entries in quarantine", quarantined)
			}
			if info, err := os.Lstat(outside); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the file outside: %v, %v", info, err)
			}
		})
	}
}

// TestPublishOverWhatIsThere has no digest to look for beforehand, so that the
// name turns out to be taken only when the blob is published.
func TestPublishOverWhatIsThere(t *testing.T) {
	t.Parallel()
	right := pulltest.RandomBytes(1, 5<<20)
	object := pulltest.Bytes(right)
	for name, planted := range map[string][]byte{"right": right, "wrong": []byte("wrong")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pulltest.New(t, object)
			s := openStore(t)
			path := plant(t, s, pulltest.Digest(object), planted, 0o600)
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			result := mustPull(t, s, Request{URL: server.URL, ImageName: "disk"})
			after, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if result.Path != path || os.SameFile(before, after) != (name == "right") {
				t.Errorf("result %+v, same file %t", result, os.SameFile(before, after))
			}
		})
	}
}

func TestPlantedPartial(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 5<<20)
	digest := pulltest.Digest(object)
	server := pulltest.New(t, object)
	s := openStore(t)
	outside := t.TempDir()
	write(t, filepath.Join(outside, dataFile), "precious")
	symlink(t, outside, s.partial.join(strings.TrimPrefix(digest, digestPrefix)))
	mustPull(t, s, Request{URL: server.URL, Digest: digest})
	if text, err := os.ReadFile(filepath.Join(outside, dataFile)); err != nil || string(text) != "precious" {
		t.Errorf("the file outside is %.20q, %v", text, err)
	}
}

func TestBlobThatWasChangedIsFetchedAgain(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 5<<20)
	server := pulltest.New(t, object)
	s := openStore(t)
	request := Request{URL: server.URL, Digest: pulltest.Digest(object)}
	result := mustPull(t, s, request)
	if err := os.Chmod(result.Path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(result.Path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("x"), 1<<20)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if again := mustPull(t, s, request); again.AlreadyPresent {
		t.Error("changed bytes were taken for present")
	}
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	right := pulltest.RandomBytes(1, 5<<20)
	digest := pulltest.Digest(pulltest.Bytes(right))
	request := Request{URL: "https://example.invalid/x", Digest: digest, ImageName: "disk"}
	s := openStore(t)
	if _, err := s.Adopt(t.Context(), request); !errors.Is(err, ErrNotPresent) {
		t.Errorf("an absent blob: %v", err)
	}
	plant(t, s, digest, right[:100], 0o444)
	if !s.Contains(digest, 100) || !s.Contains(digest, 0) || s.Contains(digest, 99) || s.Contains("sha256:x", 0) {
		t.Error("Contains does not tell by size")
	}
	if _, err := s.Adopt(t.Context(), request); !errors.Is(err, ErrNotPresent) {
		t.Errorf("a wrong blob: %v", err)
	}
	if s.Contains(digest, 0) {
		t.Error("the wrong blob is still there")
	}
	plant(t, s, digest, right, 0o644)
	result, err := s.Adopt(t.Context(), request)
	if err != nil || !result.AlreadyPresent || result.SizeBytes != 5<<20 || result.Digest != digest {
		t.Fatalf("a right blob: %+v, %v", result, err)
	}
	if got := fileDigest(t, s.images.join("disk")); got != digest {
		t.Errorf("images/disk has the digest %s", got)
	}
	request.Digest = ""
	if _, err := s.Adopt(t.Context(), request); !errors.Is(err, ErrNotPresent) {
		t.Errorf("without a digest: %v", err)
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	first, second := pulltest.Random(1, 1<<20), pulltest.Random(2, 2<<20)
	a, b := pulltest.Digest(first), pulltest.Digest(second)
	s := openStore(t)
	images := func() map[string]string {
		t.Helper()
		got, err := s.Images()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	mustPull(t, s, Request{URL: pulltest.New(t, first).URL, ImageName: "one"})
	mustPull(t, s, Request{URL: pulltest.New(t, first).URL, ImageName: "two"})
	symlink(t, "/etc/passwd", s.images.join("planted"))
	write(t, s.images.join("file"), "x")
	if got, want := images(), map[string]string{"one": a, "two": a}; !maps.Equal(got, want) {
		t.Errorf("images %v, want %v", got, want)
	}
	mustPull(t, s, Request{URL: pulltest.New(t, second).URL, ImageName: "two"})
	mustPull(t, s, Request{URL: pulltest.New(t, second).URL, ImageName: "planted"})
	if got, want := images(), map[string]string{"one": a, "two": b, "planted": b}; !maps.Equal(got, want) {
		t.Errorf("images %v, want %v", got, want)
	}
	if usage, err := s.Usage(); err != nil || usage.BlobBytes != 3<<20 || usage.CapacityBytes < usage.AvailableBytes || usage.AvailableBytes <= 0 {
		t.Errorf("usage %+v, %v", usage, err)
	}
	if err := s.RemoveBlob(a); !errors.Is(err, ErrReferenced) {
		t.Errorf("removing a blob that an image names: %v", err)
	}
	for _, name := range []string{"one", "one"} {
		if err := s.Unlink(name); err != nil {
			t.Error(err)
		}
	}
	for _, digest := range []string{a, a} {
		if err := s.RemoveBlob(digest); err != nil {
			t.Error(err)
		}
	}
	if s.Contains(a, 0) || !s.Contains(b, 2<<20) {
		t.Error("the wrong blob was removed")
	}
	if err := s.Unlink("../blobs"); reasonOf(err) != InvalidSource {
		t.Errorf("a name that leads out: %v", err)
	}
	if _, err := s.Adopt(t.Context(), Request{URL: "https://h/", Digest: a}); !errors.Is(err, ErrNotPresent) {
		t.Errorf("adopting a removed blob: %v", err)
	}
}

func TestEqualDigestsArePulledOnce(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	server := pulltest.New(t, object)
	s := openStore(t)
	var pulls sync.WaitGroup
	fetched := make(chan bool, 5)
	for i := range 5 {
		pulls.Go(func() {
			result, err := s.Pull(t.Context(), Request{
				URL: server.URL, Digest: pulltest.Digest(object), ImageName: string(rune('a' + i)),
			}, nil)
			if err != nil {
				t.Error(err)
			}
			fetched <- !result.AlreadyPresent
		})
	}
	pulls.Wait()
	close(fetched)
	count := 0
	for yes := range fetched {
		if yes {
			count++
		}
	}
	if count != 1 || server.BytesSent() != objectSize {
		t.Errorf("%d of 5 pulls fetched; %d bytes were sent for an object of %d", count, server.BytesSent(), objectSize)
	}
}

func TestEqualBytesFromTwoSourcesWithoutDigest(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	s := openStore(t)
	var pulls sync.WaitGroup
	for range 3 {
		server := pulltest.New(t, object)
		pulls.Go(func() {
			if result, err := s.Pull(t.Context(), Request{URL: server.URL}, nil); err != nil || result.Digest != pulltest.Digest(object) {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
	pulls.Wait()
}

func TestOpenBeneathFollowsNoLink(t *testing.T) {
	t.Parallel()
	root, outside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "f"), "x")
	if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "a", "b", "f"), "x")
	symlink(t, outside, filepath.Join(root, "out"))
	symlink(t, "a", filepath.Join(root, "in"))
	symlink(t, "f", filepath.Join(root, "a", "b", "last"))
	d, err := openRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.close() }()
	ways := map[string]func(int, string, int, uint32) (int, error){"openat2": openBeneath, "by component": openByComponent}
	for way, open := range ways {
		for name, works := range map[string]bool{
			"a/b/f": true, "a/b": true, "out/f": false, "in/b/f": false, "a/b/last": false, "out": false,
		} {
			fd, err := open(d.fd(), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
			if (err == nil) != works {
				t.Errorf("%s: %s: %v", way, name, err)
			}
			if err == nil {
				_ = unix.Close(fd)
			}
		}
	}
	for _, name := range []string{"../x", "/etc/passwd", "a/../../x"} {
		if _, err := openBeneath(d.fd(), name, unix.O_RDONLY, 0); err == nil {
			t.Errorf("%s was opened", name)
		}
	}
}
