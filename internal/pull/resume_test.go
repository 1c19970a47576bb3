package pull

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// resumeSize is more than two checkpoints and an odd last unit.
const resumeSize = 41<<20 + 12<<10

// interrupt pulls until some of the object is on disk and returns the bytes that
// the journal vouches for then.
func interrupt(t *testing.T, s *Store, object pulltest.Content, r Request) int64 {
	t.Helper()
	server := pulltest.New(t, object, pulltest.When(func(x *pulltest.Exchange) bool { return x.Body.End > 21<<20 }, pulltest.Stall(1<<20+77)))
	r.URL = strings.Replace(r.URL, "ORIGIN", strings.TrimSuffix(server.URL, "/image"), 1)
	ctx, report, cancel := cancelWhen(t.Context(), func(p Progress) bool { return p.BytesCompleted >= 20<<20 })
	defer cancel()
	if _, err := s.Pull(ctx, r, report); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	names := entries(t, s.partial.path)
	if len(names) != 1 {
		t.Fatalf("partial/ holds %v", names)
	}
	j := journalOf(t, s.root.path, names[0])
	if j == nil || j.vouched() < 20<<20 {
		t.Fatalf("after the interruption the journal is %+v", j)
	}
	return j.vouched()
}

func TestResume(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, resumeSize)
	s := openStore(t)
	r := Request{URL: "ORIGIN/image", Digest: pulltest.Digest(object), ImageName: "disk"}
	vouched := interrupt(t, s, object, r)

	server := pulltest.New(t, object)
	r.URL = server.URL
	var first, last Progress
	result, err := s.Pull(t.Context(), r, func(p Progress) {
		if first == (Progress{}) && p.TotalBytes > 0 {
			first = p
		}
		last = p
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.ResumedBytes != vouched || result.TransferredBytes != resumeSize-vouched || !result.Parallel {
		t.Errorf("the journal vouched for %d: %+v", vouched, result)
	}
	if first.BytesCompleted < vouched || last.BytesCompleted != resumeSize || last.HashedBytes != resumeSize || last.ResumedBytes != vouched {
		t.Errorf("progress %+v to %+v", first, last)
	}
	if most := float64(resumeSize-vouched)/result.Duration.Seconds() + 1; float64(result.AverageBytesPerSecond) > most {
		t.Errorf("%d bytes per second count what was there: %+v", result.AverageBytesPerSecond, result)
	}
	checkResumed(t, s, result, object)
}

func checkResumed(t *testing.T, s *Store, result Result, object pulltest.Content) {
	t.Helper()
	if got := fileDigest(t, s.images.join("disk")); got != pulltest.Digest(object) || result.Digest != got {
		t.Errorf("images/disk has the digest %s, the result %s", got, result.Digest)
	}
	if left := entries(t, s.partial.path); len(left) != 0 {
		t.Errorf("partial/ holds %v", left)
	}
}

// TestResumeWhatChanged damages what an interrupted pull left, one way a case.
func TestResumeWhatChanged(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, resumeSize)
	journalAt := func(path string, change func([]byte) []byte) error {
		text, err := os.ReadFile(filepath.Join(path, journalFile))
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(path, journalFile), change(text), 0o600)
	}
	writeAt := func(path string, at int64) error {
		f, err := os.OpenFile(filepath.Join(path, dataFile), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte("damage"), at)
		return errors.Join(err, f.Close())
	}
	tests := []struct {
		name   string
		damage func(t *testing.T, path string) error
		lost   int64 // bytes that are fetched again; -1 is all of them
	}{
		{"nothing", func(*testing.T, string) error { return nil }, 0},
		{"the first unit", func(_ *testing.T, path string) error { return writeAt(path, 5) }, unitSize},
		{"a later unit", func(_ *testing.T, path string) error { return writeAt(path, 9<<20-3) }, 2 * unitSize},
		{"the file cut short", func(_ *testing.T, path string) error { return os.Truncate(filepath.Join(path, dataFile), 9<<20) }, -1},
		{"the file replaced", func(t *testing.T, path string) error {
			t.Helper()
			text, err := os.ReadFile(filepath.Join(path, dataFile))
			return errors.Join(err, os.Rename(filepath.Join(path, dataFile), filepath.Join(t.TempDir(), "old")),
				os.WriteFile(filepath.Join(path, dataFile), text, 0o600))
		}, -1},
		{"the file gone", func(_ *testing.T, path string) error { return os.Remove(filepath.Join(path, dataFile)) }, -1},
		{"a second link", func(t *testing.T, path string) error {
			t.Helper()
			return os.Link(filepath.Join(path, dataFile), filepath.Join(t.TempDir(), "link"))
		}, -1},
		{"the journal gone", func(_ *testing.T, path string) error { return os.Remove(filepath.Join(path, journalFile)) }, -1},
		{"the journal cut", func(_ *testing.T, path string) error {
			return journalAt(path, func(p []byte) []byte { return p[:len(p)-1] })
		}, -1},
		{"the journal empty", func(_ *testing.T, path string) error {
			return journalAt(path, func([]byte) []byte { return nil })
		}, -1},
		{"the journal of another version", func(_ *testing.T, path string) error {
			return journalAt(path, func(p []byte) []byte {
				for i := range p {
					p[i] = 'x'
				}
				return p
			})
		}, -1},
		{"the journal a link", func(t *testing.T, path string) error {
			t.Helper()
			moved := filepath.Join(t.TempDir(), "journal")
			return errors.Join(os.Rename(filepath.Join(path, journalFile), moved), os.Symlink(moved, filepath.Join(path, journalFile)))
		}, -1},
		{"read-only, as before it is published", func(_ *testing.T, path string) error { return os.Chmod(filepath.Join(path, dataFile), blobMode) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			r := Request{URL: "ORIGIN/image", Digest: pulltest.Digest(object), ImageName: "disk"}
			vouched := interrupt(t, s, object, r)
			if err := tt.damage(t, s.partial.join(strings.TrimPrefix(r.Digest, digestPrefix))); err != nil {
				t.Fatal(err)
			}
			want := vouched - tt.lost
			if tt.lost < 0 {
				want = 0
			}
			r.URL = pulltest.New(t, object).URL
			result := mustPull(t, s, r)
			if result.ResumedBytes != want || result.TransferredBytes != resumeSize-want {
				t.Errorf("of %d bytes %d were used again and %d fetched", vouched, result.ResumedBytes, result.TransferredBytes)
			}
			checkResumed(t, s, result, object)
		})
	}
}

// TestResumeOfWhichObject changes what the server has between two pulls of one URL.
func TestResumeOfWhichObject(t *testing.T) {
	t.Parallel()
	object, other, shorter := pulltest.Random(1, resumeSize), pulltest.Random(2, resumeSize), pulltest.Random(1, resumeSize-4096)
	tests := []struct {
		name    string
		object  pulltest.Content
		be      []pulltest.Behaviour
		digest  bool
		resumes bool
		most    float64 // transferred by the second pull, in objects
	}{
		{"the same", object, nil, false, true, 0.6},
		{"the same under another tag", object, be(pulltest.Header("ETag", `"v2"`)), false, false, 1.2},
		{"the same without a tag", object, be(pulltest.NoHeader("ETag")), false, false, 1.2},
		{"the same under another tag, digest", object, be(pulltest.Header("ETag", `"v2"`)), true, true, 0.6},
		{"the same without a tag, digest", object, be(pulltest.NoHeader("ETag")), true, true, 0.6},
		{"another under another tag", other, be(pulltest.Header("ETag", `"v2"`)), false, false, 1.2},
		{"a shorter one", shorter, be(pulltest.Header("ETag", `"v2"`)), false, false, 1.2},
		{"a shorter one under the same tag", shorter, nil, false, false, 1.2},
		{"no ranges any more", object, be(pulltest.NoRanges), true, false, 1.1},
		{"416", object, be(pulltest.Later(pulltest.Status(http.StatusRequestedRangeNotSatisfiable))), true, false, 3},
		{"503 at first", object, be(pulltest.OnNumber(0, pulltest.Status(http.StatusServiceUnavailable))), true, true, 0.6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			// One URL for both pulls: the server's object changes in between.
			changed := make(chan struct{})
			isChanged := func() bool {
				select {
				case <-changed:
					return true
				default:
					return false
				}
			}
			numbered := 0
			server := pulltest.New(t, object, func(x *pulltest.Exchange) {
				if !isChanged() {
					if x.Body.End > 21<<20 {
						x.StallAfter = max(0, 21<<20+77-x.Body.Start)
					}
					return
				}
				x.Number, numbered = numbered, numbered+1
				x.Content = tt.object
				if size := x.Content.Size(); x.HasRange { // whatever If-Match says: the tag is another by now
					x.Asked.End = min(x.Asked.End, size)
					x.Status, x.Text, x.Body = http.StatusPartialContent, nil, x.Asked
					x.SetContentRange(x.Body, size)
					x.Header.Set("ETag", pulltest.DefaultETag)
				}
				for _, behave := range tt.be {
					behave(x)
				}
			})
			r := Request{URL: server.URL, ImageName: "disk", Connections: 1}
			if tt.digest {
				r.Digest = pulltest.Digest(tt.object)
			}
			ctx, report, cancel := cancelWhen(t.Context(), func(p Progress) bool { return p.BytesCompleted >= 20<<20 })
			defer cancel()
			if _, err := s.Pull(ctx, r, report); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			close(changed)
			result := mustPull(t, s, r)
			if (result.ResumedBytes > 0) != tt.resumes {
				t.Errorf("%d bytes were used again", result.ResumedBytes)
			}
			if again := float64(result.TransferredBytes) / resumeSize; again > tt.most {
				t.Errorf("%.2f objects were transferred again", again)
			}
			checkResumed(t, s, result, tt.object)
		})
	}
}

func TestUnsigned(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, a, b string
		same       bool
	}{
		{"plain", "https://h/a", "https://h/a", true},
		{"another path", "https://h/a", "https://h/b", false},
		{"another host", "https://h/a", "https://i/a", false},
		{"another parameter", "https://h/a?v=1", "https://h/a?v=2", false},
		{"S3", "https://h/a?X-Amz-Date=1&X-Amz-Signature=1&v=1", "https://h/a?X-Amz-Date=2&X-Amz-Signature=2&v=1", true},
		{"S3, another version", "https://h/a?X-Amz-Signature=1&versionId=1", "https://h/a?X-Amz-Signature=2&versionId=2", false},
		{"Azure", "https://h/a?sv=1&se=2026&sig=a%2Fb", "https://h/a?sv=1&se=2027&sig=c", true},
		{"short names without a signature", "https://h/a?st=1", "https://h/a?st=2", false},
		{"Google", "https://h/a?X-Goog-Signature=1&X-Goog-Expires=5", "https://h/a?X-Goog-Signature=2&X-Goog-Expires=6", true},
		{"signed and not", "https://h/a?X-Amz-Signature=1", "https://h/a", false},
	}
	for _, tt := range tests {
		a, errA := url.Parse(tt.a)
		b, errB := url.Parse(tt.b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if same := unsigned(a) == unsigned(b); same != tt.same {
			t.Errorf("%s: the same object is %t", tt.name, same)
		}
	}
}

func TestWhatIsKeptAfterAFailure(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, resumeSize)
	late := func(behaviours ...pulltest.Behaviour) []pulltest.Behaviour {
		return be(pulltest.When(func(x *pulltest.Exchange) bool { return x.Asked.Start >= 20<<20 }, behaviours...))
	}
	tests := []struct {
		name string
		be   []pulltest.Behaviour
		want Reason
		kept bool
	}{
		{"unavailable", late(pulltest.Status(http.StatusInternalServerError)), SourceUnavailable, true},
		{"throttled", late(pulltest.Status(http.StatusTooManyRequests)), SourceThrottled, true},
		{"gone", late(pulltest.Status(http.StatusNotFound)), NotFound, true},
		{"forbidden", late(pulltest.Status(http.StatusForbidden)), Forbidden, true},
		{"a page instead", be(pulltest.When(func(x *pulltest.Exchange) bool { return !x.HasRange || x.Asked.Start >= 20<<20 },
			pulltest.Page("text/html", "<!doctype html><form>"))), UnsupportedContent, true},
		{"other bytes", be(pulltest.Corrupt(30 << 20)), DigestMismatch, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			_, err := s.Pull(t.Context(), Request{URL: pulltest.New(t, object, tt.be...).URL, Digest: pulltest.Digest(object), Connections: 1}, nil)
			wantReason(t, err, tt.want)
			if kept := len(entries(t, s.partial.path)) > 0; kept != tt.kept {
				t.Errorf("kept is %t", kept)
			}
		})
	}
}
