package pull

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// changing is a server whose behaviours are others from some moment on, at which
// requests are counted from 0 again.
type changing struct {
	*pulltest.Server
	requests atomic.Int64
	changed  atomic.Int64 // requests that came before; -1: not yet
}

func newChanging(t *testing.T, content pulltest.Content, before, after []pulltest.Behaviour) *changing {
	t.Helper()
	c := &changing{}
	c.changed.Store(-1)
	c.Server = pulltest.New(t, content, func(x *pulltest.Exchange) {
		which, number := before, x.Number
		if changed := int(c.changed.Load()); changed >= 0 {
			which, x.Number = after, number-changed
		}
		c.requests.Add(1)
		for _, behave := range which {
			behave(x)
		}
		x.Number = number
	})
	return c
}

func (c *changing) change() { c.changed.Store(c.requests.Load()) }

// since returns the requests since the change, and the body bytes of their answers.
func (c *changing) since() (log []pulltest.Record, sent int64) {
	for _, record := range c.Log() {
		if record.Number >= int(c.changed.Load()) {
			log = append(log, record)
			sent += record.Sent
		}
	}
	return log, sent
}

// silentFrom sends nothing from a position of the object on.
func silentFrom(at int64) pulltest.Behaviour {
	return func(x *pulltest.Exchange) {
		if x.Body.End > at {
			x.StallAfter = max(0, at-x.Body.Start)
		}
	}
}

// interruptAt pulls until so much is on disk and returns the inode of the data
// file, which stays open until the test ends, so that no other file gets its number.
func interruptAt(t *testing.T, s *Store, r Request, bytes int64) uint64 {
	t.Helper()
	ctx, report, cancel := cancelWhen(t.Context(), func(p Progress) bool { return p.BytesCompleted >= bytes })
	defer cancel()
	if _, err := s.Pull(ctx, r, report); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	key := entries(t, s.partial.path)[0]
	if j := journalOf(t, s.root.path, key); j == nil || j.vouched() < bytes {
		t.Fatalf("after the interruption the journal is %+v", j)
	}
	path := filepath.Join(s.partial.join(key), dataFile)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return inode(t, path)
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// damage flips bytes of a unit that an interrupted pull left.
func damage(t *testing.T, s *Store, unit int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.partial.join(entries(t, s.partial.path)[0]), dataFile), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("damage"), int64(unit)*unitSize+99)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestResumeFromAWholeAnswer resumes at a server that answers 200 by now: what is
// on disk stays and is compared, if it is the same object.
func TestResumeFromAWholeAnswer(t *testing.T) {
	t.Parallel()
	object, other := pulltest.Random(1, resumeSize), pulltest.Random(2, resumeSize)
	const left = 21 << 20
	otherObject := func(x *pulltest.Exchange) {
		x.Content = other
		x.Header.Set("ETag", `"v2"`)
	}
	first := func(b ...pulltest.Behaviour) pulltest.Behaviour { return pulltest.OnNumber(0, b...) }
	tests := []struct {
		name    string
		be      []pulltest.Behaviour
		digest  bool
		object  pulltest.Content // in the end; nil is the same as before
		damaged bool
		kept    bool    // the file that was there
		resumed bool    // some bytes were not sent again
		most    float64 // sent, in objects
	}{
		{name: "the same tag", be: be(pulltest.NoRanges), kept: true, most: 1},
		{name: "the same tag, in chunks", be: be(pulltest.NoRanges, pulltest.Frame(pulltest.Chunked)), kept: true, most: 1},
		{name: "no tag, digest", be: be(pulltest.NoRanges, pulltest.NoHeader("ETag")), digest: true, kept: true, most: 1},
		{name: "no tag, digest, until close", be: be(pulltest.NoRanges, pulltest.NoHeader("ETag"), pulltest.Frame(pulltest.UntilClose)), digest: true, kept: true, most: 1},
		{name: "another tag, digest", be: be(pulltest.NoRanges, pulltest.Header("ETag", `"v2"`)), digest: true, kept: true, most: 1},
		{name: "no tag, no digest", be: be(pulltest.NoRanges, pulltest.NoHeader("ETag")), most: 1},
		{name: "a weak tag, no digest", be: be(pulltest.NoRanges, pulltest.Header("ETag", `W/"v1"`)), most: 1},
		{name: "another object", be: be(pulltest.NoRanges, otherObject), object: other, most: 1},
		{name: "a unit on disk changed", be: be(pulltest.NoRanges), damaged: true, kept: true, most: 1},
		{name: "a unit on disk changed, digest", be: be(pulltest.NoRanges), digest: true, damaged: true, kept: true, most: 1},
		{name: "a part as 200", be: be(pulltest.OnRange(pulltest.As200)), kept: true, most: 1.4},
		{name: "a part as 200, in chunks", be: be(pulltest.OnRange(pulltest.As200, pulltest.Frame(pulltest.Chunked))), kept: true, most: 1.4},
		{name: "a part as 200, no Content-Range", be: be(pulltest.OnRange(pulltest.As200, pulltest.NoHeader("Content-Range"))), kept: true, most: 1.4},
		{name: "a part as 200, no tag", be: be(pulltest.NoHeader("ETag"), pulltest.OnRange(pulltest.As200)), most: 1.4},
		{name: "206 of everything", be: be(pulltest.Whole206), kept: true, most: 1},
		{name: "ranges refused", be: be(pulltest.OnRange(pulltest.Status(http.StatusMethodNotAllowed))), kept: true, most: 1},
		{name: "other bytes under the same tag", be: be(pulltest.NoRanges, first(pulltest.Corrupt(5<<20))), most: 2},
		{name: "other bytes, digest", be: be(pulltest.NoRanges, first(pulltest.Corrupt(5<<20))), digest: true, most: 2},
		{name: "other bytes where nothing was, digest", be: be(pulltest.NoRanges, first(pulltest.Corrupt(40<<20))), digest: true, most: 2},
		{name: "cut, and again a whole answer", be: be(pulltest.NoRanges, first(pulltest.Cut(30<<20))), kept: true, most: 1.8},
		{name: "cut, and then ranges again", be: be(first(pulltest.NoRanges, pulltest.Cut(30<<20))), kept: true, resumed: true, most: 1.1},
		{name: "short, in chunks", be: be(pulltest.NoRanges, first(pulltest.Frame(pulltest.Chunked), pulltest.ShortBy(7))), most: 2},
		{name: "longer, in chunks", be: be(pulltest.NoRanges, first(pulltest.Frame(pulltest.Chunked), pulltest.Longer(7))), most: 2.01},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			server := newChanging(t, object, be(silentFrom(left+77)), tt.be)
			if tt.object == nil {
				tt.object = object
			}
			r := Request{URL: server.URL, ImageName: "disk", Connections: 1}
			if tt.digest {
				r.Digest = pulltest.Digest(object)
			}
			before := interruptAt(t, s, r, left)
			if tt.damaged {
				damage(t, s, 9)
			}
			server.change()
			result := mustPull(t, s, r)
			checkResumed(t, s, result, tt.object)
			if kept := inode(t, result.Path) == before; kept != tt.kept {
				t.Errorf("the file is the one that was there: %t", kept)
			}
			if (result.ResumedBytes > 0) != tt.resumed || result.Parallel != tt.resumed {
				t.Errorf("result %+v", result)
			}
			// Where a body is given up, the kernel's buffers may hold some of it.
			if _, sent := server.since(); float64(sent) > (tt.most+0.001)*resumeSize {
				t.Errorf("the server sent %.3f objects, want at most %.3f", float64(sent)/resumeSize, tt.most)
			}
		})
	}
}

// waiting is an object whose first request ends only when the second one was made,
// so that another worker asks for what follows.
type waiting struct {
	pulltest.Content

	asked chan struct{}
	once  sync.Once
}

// ReadAt implements io.ReaderAt.
func (w *waiting) ReadAt(p []byte, offset int64) (int, error) {
	if offset < probeSize && offset+int64(len(p)) >= probeSize {
		<-w.asked
	}
	return w.Content.ReadAt(p, offset)
}

// TestDamageIsFoundBehindAStream has a unit of an earlier pull that is found
// damaged only when a 200 brings the rest already: the hasher cannot get there
// before the stream has filled the hole in front of it.
func TestDamageIsFoundBehindAStream(t *testing.T) {
	t.Parallel()
	random := pulltest.Random(1, resumeSize)
	for _, digest := range []string{"", pulltest.Digest(random)} {
		object := &waiting{Content: random, asked: make(chan struct{})}
		hole := func(x *pulltest.Exchange) bool {
			is := x.HasRange && x.Asked.Start == probeSize
			if is {
				object.once.Do(func() { close(object.asked) })
			}
			return is
		}
		s := openStore(t)
		server := newChanging(t, object,
			be(silentFrom(26<<20), pulltest.When(hole, pulltest.Stall(0))),
			be(pulltest.OnNumber(0, pulltest.Cut(100)), pulltest.After(1, pulltest.NoRanges)))
		r := Request{URL: server.URL, ImageName: "disk", Connections: 2, Digest: digest}
		before := interruptAt(t, s, r, 22<<20) // all but 4 MiB of the first 26
		damage(t, s, 12)
		server.change()
		r.Connections = 1
		result := mustPull(t, s, r)
		checkResumed(t, s, result, object)
		if inode(t, result.Path) != before || result.ResumedBytes != 0 {
			t.Errorf("another file; result %+v", result)
		}
		log, sent := server.since()
		if len(log) != 3 || log[0].Status != http.StatusPartialContent || !strings.HasPrefix(log[0].Header.Get("Range"), "bytes=4194304-") || log[2].Sent != resumeSize {
			t.Errorf("the server saw %+v", log)
		}
		// The first 200 is given up; the kernel's buffers hold some of it.
		if sent > resumeSize*3/2 {
			t.Errorf("the server sent %d bytes", sent)
		}
	}
}
