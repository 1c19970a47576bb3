package pull

import (
	"os"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

func TestDiscardPartials(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, resumeSize)
	s := openStore(t)
	r := Request{URL: "ORIGIN/image", Digest: pulltest.Digest(object)}
	interrupt(t, s, object, r)
	r.URL = "https://example.invalid/x"
	unlock := s.keys.tryLock(workKey(&job{digest: r.Digest[len(digestPrefix):]}))
	discard := func(before time.Time) int64 {
		t.Helper()
		freed, err := s.DiscardPartials(before)
		if err != nil {
			t.Fatal(err)
		}
		return freed
	}
	if freed := discard(time.Now().Add(time.Hour)); freed != 0 {
		t.Errorf("%d bytes of a pull that runs were discarded", freed)
	}
	unlock()
	if freed := discard(time.Now().Add(-time.Hour)); freed != 0 {
		t.Errorf("%d bytes of a recent pull were discarded", freed)
	}
	if freed := discard(time.Now().Add(time.Hour)); freed < resumeSize || len(entries(t, s.partial.path)) != 0 {
		t.Errorf("%d bytes were freed", freed)
	}
	interrupt(t, s, object, Request{URL: "ORIGIN/image", Digest: r.Digest})
	tomorrow := time.Now().Add(24 * time.Hour) // by a clock that was set back since
	if err := os.Chtimes(s.partial.join(workKey(&job{digest: r.Digest[len(digestPrefix):]})), tomorrow, tomorrow); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing
		if err := s.DiscardPartial(r); err != nil || len(entries(t, s.partial.path)) != 0 {
			t.Errorf("%v, partial/ holds %v", err, entries(t, s.partial.path))
		}
	}
}
