package pull

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

func TestCancelledPullLeavesNothing(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	for name, behaviours := range map[string][]pulltest.Behaviour{
		"ranges": be(pulltest.Pace(2 << 20)),
		"stream": be(pulltest.NoRanges, pulltest.Pace(2<<20)),
		"silent": be(pulltest.Stall(3 << 20)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pulltest.New(t, object, behaviours...)
			s := openStore(t)
			ctx, report, cancel := cancelWhen(t.Context(), func(p Progress) bool { return p.BytesCompleted > 0 })
			defer cancel()
			result, err := s.Pull(ctx, Request{URL: server.URL, Digest: pulltest.Digest(object)}, report)
			if !errors.Is(err, context.Canceled) || result.TransferredBytes == 0 {
				t.Fatalf("%+v, %v", result, err)
			}
			if s.Contains(pulltest.Digest(object), 0) {
				t.Error("a blob was published")
			}
		})
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	server := pulltest.New(t, object, pulltest.Pace(6<<20))
	var last Progress
	var running atomic.Int32
	_, err := openStore(t).Pull(t.Context(), Request{URL: server.URL, Connections: 2}, func(p Progress) {
		if running.Add(1) != 1 {
			t.Error("two reports at once")
		}
		if p.BytesCompleted < last.BytesCompleted || p.HashedBytes > p.BytesCompleted || p.BytesCompleted > objectSize {
			t.Errorf("progress %+v after %+v", p, last)
		}
		last = p
		running.Add(-1)
	})
	if err != nil {
		t.Fatal(err)
	}
	if last.BytesCompleted != objectSize || last.HashedBytes != objectSize || last.TotalBytes != objectSize || last.TransferredBytes != objectSize {
		t.Errorf("last progress %+v", last)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 6<<20)
	for name, behaviours := range map[string][]pulltest.Behaviour{"ranges": nil, "stream": be(pulltest.NoRanges)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pulltest.New(t, object, behaviours...)
			result := mustPull(t, openStore(t), Request{URL: server.URL, MaxBytesPerSecond: 4 << 20})
			if result.Duration < 1400*time.Millisecond {
				t.Errorf("6 MiB at 4 MiB/s took %s", result.Duration)
			}
		})
	}
}

func TestConnectionsAreBoundedAndKept(t *testing.T) {
	t.Parallel()
	object := pulltest.Generated(64 << 20)
	server := pulltest.New(t, object)
	result := mustPull(t, openStore(t), Request{URL: server.URL, Connections: 3, Format: FormatOpaque})
	if server.PeakConnections() > 3 || result.Connections > 3 || result.Connections < 2 {
		t.Errorf("%d connections at once, result %+v", server.PeakConnections(), result)
	}
	if server.Connections() > 4 {
		t.Errorf("%d connections for %d requests: they are not kept", server.Connections(), len(server.Log()))
	}
}

func TestRequestsOfTheEngine(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	server := pulltest.New(t, object)
	mustPull(t, openStore(t), Request{URL: server.URL})
	for i, record := range server.Log() {
		if record.Header.Get("Accept-Encoding") != "identity" || !strings.HasPrefix(record.Header.Get("Range"), "bytes=") {
			t.Errorf("request %d: %v", i, record.Header)
		}
		if i == 0 && record.Header.Get("Range") != "bytes=0-4194303" {
			t.Errorf("the first range is %s", record.Header.Get("Range"))
		}
		if i > 0 && record.Header.Get("If-Match") != pulltest.DefaultETag {
			t.Errorf("request %d has If-Match %q", i, record.Header.Get("If-Match"))
		}
	}
}

// TestWeakTagsAreNoPrecondition: RFC 9110 §13.1.1 compares If-Match strongly.
func TestWeakTagsAreNoPrecondition(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	server := pulltest.New(t, object, pulltest.Header("ETag", `W/"v1"`))
	mustPull(t, openStore(t), Request{URL: server.URL, Digest: pulltest.Digest(object)})
	for i, record := range server.Log() {
		if record.Header.Get("If-Match") != "" || record.Header.Get("If-Range") != "" {
			t.Errorf("request %d: %v", i, record.Header)
		}
	}
}

func TestInsufficientSpaceBeforeAnythingIsWritten(t *testing.T) {
	t.Parallel()
	server := pulltest.New(t, pulltest.Generated(1<<50))
	s := openStore(t)
	before, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Pull(t.Context(), Request{URL: server.URL, MaxSize: 1 << 60, Format: FormatOpaque}, nil)
	wantReason(t, err, InsufficientSpace)
	if !strings.Contains(err.Error(), "make room") || len(server.Log()) > 1 {
		t.Errorf("%v after %d requests", err, len(server.Log()))
	}
	if after, err := s.Usage(); err != nil || after.BlobBytes != before.BlobBytes {
		t.Errorf("usage %+v, %v", after, err)
	}
}

func TestErrorsCarryTheirRetryAfter(t *testing.T) {
	t.Parallel()
	server := pulltest.New(t, pulltest.Random(1, 1), pulltest.Status(429, "Retry-After", "7"))
	_, err := openStore(t).Pull(t.Context(), Request{URL: server.URL, Patience: AskOnce}, nil)
	var e interface {
		Reason() string
		RetryAfter() time.Duration
	}
	if !errors.As(err, &e) || e.Reason() != string(SourceThrottled) || e.RetryAfter() != 7*time.Second {
		t.Errorf("error %v", err)
	}
	if n := len(server.Log()); n != 1 {
		t.Errorf("%d requests, want one", n)
	}
}

// TestMemoryDoesNotGrowWithTheObject pulls 256 MiB over many connections and
// looks at what the heap takes meanwhile, which includes the server's buffers. It
// runs alone: no other test's heap is in the way.
func TestMemoryDoesNotGrowWithTheObject(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 256 MiB")
	}
	server := pulltest.New(t, pulltest.Generated(256<<20))
	s := openStore(t)
	heap := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	runtime.GC()
	before, most := heap(), int64(0)
	_, err := s.Pull(t.Context(), Request{URL: server.URL, Format: FormatOpaque}, func(Progress) { most = max(most, heap()) })
	if err != nil {
		t.Fatal(err)
	}
	if most-before > 24<<20 {
		t.Errorf("the heap grew by %d MiB", (most-before)>>20)
	}
}
