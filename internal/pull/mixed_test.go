package pull

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// tagged answers with an entity tag of the request's own, and the same bytes.
func tagged(format string, of func(*pulltest.Exchange) int) pulltest.Behaviour {
	return func(x *pulltest.Exchange) { x.Header.Set("ETag", fmt.Sprintf(format, of(x))) }
}

// stale answers from a copy of other bytes, and says so.
func stale(content pulltest.Content) pulltest.Behaviour {
	return func(x *pulltest.Exchange) {
		x.Content = content
		x.Header.Set("ETag", `"stale"`)
	}
}

// staleConnection makes the connection stale that asks for what follows the first
// range, there.
func staleConnection(content pulltest.Content) pulltest.Behaviour {
	var mu sync.Mutex
	connection := -1
	return pulltest.When(func(x *pulltest.Exchange) bool {
		mu.Lock()
		defer mu.Unlock()
		if x.Asked.Start == probeSize && connection < 0 {
			connection = x.Connection
		}
		return x.Connection == connection && x.Asked.Start == probeSize
	}, stale(content), few)
}

// few makes an answer so short that it cannot be most of the object.
func few(x *pulltest.Exchange) {
	if x.HasRange {
		pulltest.EarlyEnd(leaseMin)(x)
	}
}

// TestCopies pulls from servers that are several under one name: their copies of
// the object differ in their validators, and perhaps in their bytes.
func TestCopies(t *testing.T) {
	t.Parallel()
	object, other, third := pulltest.Random(1, resumeSize), pulltest.Random(2, resumeSize), pulltest.Random(3, resumeSize)
	connection := func(x *pulltest.Exchange) int { return x.Connection }
	number := func(x *pulltest.Exchange) int { return x.Number }
	const lease = float64(leaseMin) / resumeSize
	for _, tt := range []struct {
		name   string
		be     []pulltest.Behaviour
		digest pulltest.Content // nil is the object
		want   Reason
		serial bool
		sent   float64 // most, in objects
	}{
		{name: "a tag of each connection's own", be: be(tagged(`"%d"`, connection)), sent: 1.01},
		{name: "a tag of each answer's own", be: be(tagged(`"%d"`, number)), sent: 1.01},
		{name: "a weak tag of each answer's own", be: be(tagged(`W/"%d"`, number)), sent: 1.01},
		{name: "a new tag in the middle", be: be(pulltest.After(4, pulltest.Header("ETag", `"v2"`))), sent: 1.01},
		{name: "no tag any more", be: be(pulltest.After(4, pulltest.NoHeader("ETag"))), sent: 1.01},
		{name: "a date of each answer's own", be: be(pulltest.NoHeader("ETag"), func(x *pulltest.Exchange) {
			x.Header.Set("Last-Modified", fmt.Sprintf("Fri, 01 May 2020 11:00:%02d GMT", x.Number))
		}), sent: 1.01},
		{name: "cut, and a tag of each answer's own", be: be(tagged(`"%d"`, number), pulltest.Cut(700<<10)), sent: 1.01},

		{name: "one stale answer", be: be(pulltest.OnNumber(3, stale(other), few)), sent: 1.01 + lease},
		{name: "one stale answer that is cut", be: be(pulltest.OnNumber(3, stale(other), pulltest.Cut(unitSize+99))), sent: 1.01 + lease},
		{name: "one stale connection", be: be(staleConnection(other)), sent: 1.01 + 2*lease},
		{name: "stale until now", be: be(pulltest.When(func(x *pulltest.Exchange) bool { return x.Number < 2 }, stale(other), few)), sent: 1.01 + 2*lease},
		{name: "two stale answers of two copies", be: be(pulltest.OnNumber(3, stale(other), few), pulltest.OnNumber(4, stale(third), few, pulltest.Header("ETag", `"v3"`))), sent: 1.01 + 2*lease},

		{name: "the digest of what was", be: be(pulltest.OnNumber(1, few), pulltest.After(2, stale(other))), want: SourceChanged, sent: 2.3},
		{name: "a digest of nothing, equal copies", be: be(tagged(`"%d"`, connection)), digest: third, want: DigestMismatch, sent: 4.5},
		{name: "a digest of nothing, unequal copies", be: be(pulltest.OnNumber(1, few), pulltest.After(2, stale(other))), digest: third, want: SourceChanged, sent: 2.3},
		{name: "a digest of nothing, one copy", digest: third, want: DigestMismatch, sent: 2.01},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.digest == nil {
				tt.digest = object
			}
			server := pulltest.New(t, object, tt.be...)
			store := openStore(t)
			r := Request{URL: server.URL, Digest: pulltest.Digest(tt.digest), ImageName: "disk"}
			result, err := store.Pull(t.Context(), r, nil)
			server.Close()
			if sent := float64(server.BytesSent()) / resumeSize; sent > tt.sent {
				t.Errorf("the server sent %.2f objects, want at most %.2f", sent, tt.sent)
			}
			for _, record := range server.Log() {
				if condition := record.Header.Get("If-Match") + record.Header.Get("If-Unmodified-Since"); condition != "" {
					t.Errorf("under a digest the server is asked for %s", condition)
				}
			}
			wantReason(t, err, tt.want)
			if err != nil {
				checkFailure(t, store, err, "")
				return
			}
			checkResumed(t, store, result, object)
			if result.ResumedBytes != 0 || result.Parallel == tt.serial {
				t.Errorf("result %+v", result)
			}
		})
	}
}

// TestCopiesWithoutADigest has the same servers give nothing that tells whether
// ranges belong together: no two copies may meet.
func TestCopiesWithoutADigest(t *testing.T) {
	t.Parallel()
	object, other := pulltest.Random(1, resumeSize), pulltest.Random(2, resumeSize)
	for name, behaviours := range map[string][]pulltest.Behaviour{
		"one stale answer":     be(pulltest.OnNumber(3, stale(other))),
		"one stale connection": be(pulltest.OnConnection(1, stale(other))),
		"stale by turns":       be(pulltest.When(every(2), stale(other))),
		"stale from now on":    be(pulltest.After(3, stale(other))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := mustPull(t, openStore(t), Request{URL: pulltest.New(t, object, behaviours...).URL})
			if result.Digest != pulltest.Digest(object) && result.Digest != pulltest.Digest(other) {
				t.Errorf("the result is a mixture: %+v", result)
			}
		})
	}
}

// TestCopiesAreRemembered interrupts a pull that had a stale answer. The next one
// goes on, and when the digest does not match it fetches no more again than that.
func TestCopiesAreRemembered(t *testing.T) {
	t.Parallel()
	object, other := pulltest.Random(1, resumeSize), pulltest.Random(2, resumeSize)
	const left = 20 << 20
	server := newChanging(t, object, be(silentFrom(left+77), pulltest.OnNumber(0, stale(other))), nil)
	s := openStore(t)
	r := Request{URL: server.URL, Digest: pulltest.Digest(object), ImageName: "disk", Connections: 1}
	interruptAt(t, s, r, left)
	j := journalOf(t, s.root.path, strings.TrimPrefix(r.Digest, digestPrefix))
	again := int64(0)
	for unit, from := range j.editions() {
		if j.has(unit) && from == newEdition(`"stale"`) {
			again += unitSize
		}
	}
	if again == 0 || again > left/2 {
		t.Fatalf("%d bytes of the journal are from the stale copy", again)
	}
	server.change()
	result := mustPull(t, s, r)
	checkResumed(t, s, result, object)
	if want := j.vouched() - again; result.ResumedBytes != want || result.TransferredBytes != resumeSize-want {
		t.Errorf("%d bytes were good and %d not: %+v", want, again, result)
	}
}

// TestMixtureIsKept cancels the attempt that mends a mixture: the next pull finds
// the bytes of one copy only.
func TestMixtureIsKept(t *testing.T) {
	t.Parallel()
	object, other := pulltest.Random(1, resumeSize), pulltest.Random(2, resumeSize)
	isStale := func(x *pulltest.Exchange) bool { return x.Asked.Start == 0 }
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := 0 // by one connection
	server := newChanging(t, object, be(pulltest.When(isStale, stale(other), func(x *pulltest.Exchange) {
		if asked++; asked > 1 {
			x.StallAfter = 0
			cancel()
		}
	})), nil)
	s := openStore(t)
	r := Request{URL: server.URL, Digest: pulltest.Digest(object), ImageName: "disk", Connections: 1}
	if _, err := s.Pull(ctx, r, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	j := journalOf(t, s.root.path, strings.TrimPrefix(r.Digest, digestPrefix))
	if j == nil || j.vouched() < resumeSize/2 || j.vouched() == resumeSize {
		t.Fatalf("the journal is %+v", j)
	}
	for unit, from := range j.editions() {
		if j.has(unit) && from != newEdition(pulltest.DefaultETag) {
			t.Errorf("the journal vouches for unit %d of the stale copy", unit)
		}
	}
	server.change()
	result := mustPull(t, s, r)
	checkResumed(t, s, result, object)
	if result.ResumedBytes != j.vouched() || result.TransferredBytes != resumeSize-j.vouched() {
		t.Errorf("the journal vouched for %d: %+v", j.vouched(), result)
	}
}
