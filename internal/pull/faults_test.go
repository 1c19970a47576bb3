package pull

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

func TestFault04DiskFull(t *testing.T) {
	t.Parallel()
	if !ownMounts(t) {
		return
	}
	path := smallDisk(t, 32<<20)
	filler := filepath.Join(path, "..", filepath.Base(path), "lost+found")
	s := openAt(t, path, OpenOptions{})
	write(t, filler, string(make([]byte, 16<<20)))
	big, small := pulltest.Random(1, 20<<20), pulltest.Random(2, 2<<20)
	r := Request{URL: pulltest.New(t, big).URL, Digest: pulltest.Digest(big), ImageName: "big"}
	_, err := s.Pull(t.Context(), r, nil)
	wantReason(t, err, InsufficientSpace)
	for _, say := range []string{"20.0 MiB more are needed", "make room"} {
		if !strings.Contains(err.Error(), say) {
			t.Errorf("the message is %q, want it to say %q", err, say)
		}
	}
	mustPull(t, s, Request{URL: pulltest.New(t, small).URL, ImageName: "small"})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	mustPull(t, s, r)
	checkStore(t, path)
}

func TestFault07ReadOnly(t *testing.T) {
	t.Parallel()
	if !ownMounts(t) {
		return
	}
	path := smallDisk(t, 32<<20)
	remount := func(flags uintptr) {
		t.Helper()
		if err := unix.Mount("", path, "", unix.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	s := openAt(t, path, OpenOptions{})
	first, second := pulltest.Random(1, 5<<20), pulltest.Random(2, 5<<20)
	a := Request{URL: pulltest.New(t, first).URL, Digest: pulltest.Digest(first), ImageName: "a"}
	b := Request{URL: pulltest.New(t, second).URL, Digest: pulltest.Digest(second), ImageName: "b"}
	mustPull(t, s, a)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	remount(unix.MS_RDONLY)
	err := s.Check()
	wantReason(t, err, StorageError)
	if !strings.Contains(err.Error(), "mount it for writing") || !s.Holds("a", a.Digest, first.Size()) {
		t.Errorf("%v; a is still there: %t", err, s.Holds("a", a.Digest, first.Size()))
	}
	_, err = s.Pull(t.Context(), b, nil)
	wantReason(t, err, StorageError)

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), path, OpenOptions{}) // a restart in the meantime
	wantReason(t, err, StorageError)
	remount(0)
	s = openAt(t, path, OpenOptions{})
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	mustPull(t, s, b)
	checkStore(t, path)
}

// TestFault07NotWritable is for those who may not mount.
func TestFault07NotWritable(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere; TestFault07ReadOnly covers it")
	}
	s := openAt(t, t.TempDir(), OpenOptions{})
	if err := os.Chmod(s.root.path, 0o555); err != nil {
		t.Fatal(err)
	}
	wantReason(t, s.Check(), StorageError)
	if err := errors.Join(os.Chmod(s.root.path, 0o755), s.Check()); err != nil {
		t.Error(err)
	}
}

func TestFault21StoreWipedOrReplaced(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		harm     func(path string) error
		replaced bool
		holds    bool
	}{
		"nothing":     {func(string) error { return nil }, false, true},
		"link gone":   {func(path string) error { return os.Remove(filepath.Join(path, "images", "disk")) }, false, false},
		"link bent":   {func(path string) error { return bend(filepath.Join(path, "images", "disk")) }, false, false},
		"blob gone":   {func(path string) error { return os.RemoveAll(onlyBlob(path)) }, false, false},
		"blob cut":    {func(path string) error { return os.Truncate(onlyBlob(path), 5) }, false, false},
		"blobs gone":  {func(path string) error { return os.RemoveAll(filepath.Join(path, "blobs")) }, true, true}, // a new process will see
		"STORE gone":  {func(path string) error { return os.Remove(filepath.Join(path, storeFile)) }, true, true},
		"LOCK gone":   {func(path string) error { return os.Remove(filepath.Join(path, LockFile)) }, true, true},
		"wiped":       {wipe, true, false},
		"another one": {func(path string) error { return errors.Join(os.Rename(path, path+".old"), os.Mkdir(path, 0o755)) }, true, true},
		"other id": {func(path string) error {
			return os.WriteFile(filepath.Join(path, storeFile), []byte(storeLayout+"\nid 00\n"), 0o600)
		}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := pulltest.Random(1, 1<<20)
			r := Request{URL: pulltest.New(t, object).URL, Digest: pulltest.Digest(object), ImageName: "disk"}
			s := openAt(t, filepath.Join(t.TempDir(), "store"), OpenOptions{})
			mustPull(t, s, r)
			if err := tt.harm(s.root.path); err != nil {
				t.Fatal(err)
			}
			err := s.Check()
			if errors.Is(err, ErrReplaced) != tt.replaced || !tt.replaced && err != nil {
				t.Errorf("the look says %v", err)
			}
			if !tt.replaced || name == "wiped" {
				if got := s.Holds("disk", r.Digest, object.Size()); got != tt.holds {
					t.Errorf("holds %t, want %t", got, tt.holds)
				}
			}
			if tt.replaced {
				if name == "STORE gone" {
					return // a person has to say whose files these are
				}
				s = reopenStore(t, s, OpenOptions{})
			}
			mustPull(t, s, r)
			if err := s.Check(); err != nil || !s.Holds("disk", r.Digest, object.Size()) {
				t.Errorf("after another pull: %v", err)
			}
			checkStore(t, s.root.path)
		})
	}
}

func bend(path string) error { return errors.Join(os.Remove(path), os.Symlink("/etc/passwd", path)) }

func onlyBlob(path string) string {
	found, _ := filepath.Glob(filepath.Join(path, "blobs", "sha256", "*"))
	return found[0]
}

func wipe(path string) error {
	list, err := os.ReadDir(path)
	for _, entry := range list {
		err = errors.Join(err, os.RemoveAll(filepath.Join(path, entry.Name())))
	}
	return err
}

// TestFault28HardLinkOfAUser makes a second name for a blob, as somebody may who
// keeps an image in use. The bytes count for as long as their digest is right.
func TestFault28HardLinkOfAUser(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 5<<20)
	r := Request{URL: pulltest.New(t, object).URL, Digest: pulltest.Digest(object), ImageName: "disk"}
	s := openAt(t, t.TempDir(), OpenOptions{})
	result := mustPull(t, s, r)
	mine := filepath.Join(t.TempDir(), "mine")
	if err := os.Link(result.Path, mine); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time as a new process
		if again := mustPull(t, s, r); !again.AlreadyPresent {
			t.Error("a blob with a second name was fetched again")
		}
		s = reopenStore(t, s, OpenOptions{})
	}
	if wrong := scrubUntil(t, s, ScrubOptions{}, func([]string) bool { return !s.Totals().Scrubbed.IsZero() }); len(wrong) > 0 {
		t.Errorf("found wrong: %q", wrong)
	}
	flip(t, mine)
	if wrong := scrubUntil(t, s, ScrubOptions{}, func(wrong []string) bool { return len(wrong) > 0 }); len(wrong) != 1 {
		t.Error("wrong bytes through the second name were not found")
	}
}

// TestFault28HardLinkWhileItIsHashed: the link that comes between two looks moves
// the time of the inode's last change, and no byte.
func TestFault28HardLinkWhileItIsHashed(t *testing.T) {
	t.Parallel()
	s := openStore(t)
	result := mustPull(t, s, Request{URL: pulltest.New(t, pulltest.Random(1, 5<<20)).URL, ImageName: "disk"})
	name := strings.TrimPrefix(result.Digest, digestPrefix)
	f, before, err := s.openBlob(name, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := os.Link(result.Path, filepath.Join(t.TempDir(), "mine")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.rehash(t.Context(), f, before, name, VerifyCache); err != nil {
		t.Error(err)
	}
	if !s.Holds("disk", result.Digest, result.SizeBytes) || len(entries(t, s.quarantine.path)) > 0 {
		t.Error("a blob with the right bytes went to quarantine")
	}
}

// TestFault28PlantedLinks plants links where the store writes, of which none may
// lead it to a file of somebody else.
func TestFault28PlantedLinks(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 5<<20)
	digest := pulltest.Digest(object)
	blob := strings.TrimPrefix(digest, digestPrefix)
	for name, plant := range map[string]func(s *Store, outside string) error{
		"symbolic link as the note":       func(s *Store, outside string) error { return os.Symlink(outside, s.unused.join(blob)) },
		"hard link as the note":           func(s *Store, outside string) error { return os.Link(outside, s.unused.join(blob)) },
		"hard link as the blob":           func(s *Store, outside string) error { return os.Link(outside, s.blobs.join(blob)) },
		"symbolic link as the blob":       func(s *Store, outside string) error { return os.Symlink(outside, s.blobs.join(blob)) },
		"symbolic link within the store":  func(s *Store, _ string) error { return os.Symlink("../../STORE", s.blobs.join(blob)) },
		"hard link within the store":      func(s *Store, _ string) error { return os.Link(s.root.join(storeFile), s.blobs.join(blob)) },
		"symbolic link as the image":      func(s *Store, outside string) error { return os.Symlink(outside, s.images.join("disk")) },
		"hard link as the image":          func(s *Store, outside string) error { return os.Link(outside, s.images.join("disk")) },
		"hard link in the quarantine":     func(s *Store, outside string) error { return os.Link(outside, s.quarantine.join(blob+".0")) },
		"symbolic link in the quarantine": func(s *Store, outside string) error { return os.Symlink(outside, s.quarantine.join(blob+".0")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside := filepath.Join(t.TempDir(), "outside")
			write(t, outside, "precious")
			before, err := os.Lstat(outside)
			if err != nil {
				t.Fatal(err)
			}
			s := openAt(t, t.TempDir(), OpenOptions{})
			if err := plant(s, outside); err != nil {
				t.Fatal(err)
			}
			wrong := scrubUntil(t, s, ScrubOptions{}, func([]string) bool { return !s.Totals().Scrubbed.IsZero() || s.Totals().CorruptBlobs > 0 })
			t.Logf("the scrub found %q", wrong)
			mustPull(t, s, Request{URL: pulltest.New(t, object).URL, Digest: digest, ImageName: "disk"})
			if strings.HasSuffix(name, "as the note") { // the first one went when the blob got its image
				if err := plant(s, outside); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(s.Unlink("disk"), s.Check(), s.RemoveBlob(digest)); err != nil {
				t.Error(err)
			}
			after, err := os.Lstat(outside)
			text, errRead := os.ReadFile(outside)
			if err := errors.Join(err, errRead); err != nil {
				t.Fatal(err)
			}
			if string(text) != "precious" || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) {
				t.Errorf("the file outside is %q, mode %v, of %v", text, after.Mode(), after.ModTime())
			}
		})
	}
}
