package pull

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/diskimage"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestServers pulls from servers of every kind. Whatever they do, the bytes that
// are published are right, and a failure leaves nothing behind.
func TestServers(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	digest := pulltest.Digest(object)
	other := pulltest.Random(2, objectSize)
	const probe = probeSize
	tests := []struct {
		name       string
		behaviours []pulltest.Behaviour
		noDigest   bool
		request    Request // URL and digest are filled in
		want       Reason
		say        string  // in the error
		serial     bool    // wanted, instead of ranges
		sentMost   float64 // most bytes the server may have sent, in objects; 0 is 1.01
	}{
		{name: "ranges"},
		{name: "ranges without a digest", noDigest: true},
		{name: "one connection", request: Request{Connections: 1}},
		{name: "64 connections", request: Request{Connections: 64}},
		{name: "verified on the medium", request: Request{Verify: VerifyMedia}},
		{name: "keep-alive refused", behaviours: be(func(x *pulltest.Exchange) { x.Close = true })},
		{name: "ranges in chunks", behaviours: be(pulltest.Frame(pulltest.Chunked))},
		{name: "ranges until the connection closes", behaviours: be(pulltest.Frame(pulltest.UntilClose))},
		{name: "no ranges", behaviours: be(pulltest.NoRanges), serial: true},
		{name: "no ranges, no digest", behaviours: be(pulltest.NoRanges), noDigest: true, serial: true},
		{name: "no ranges, chunked", behaviours: be(pulltest.NoRanges, pulltest.Frame(pulltest.Chunked)), noDigest: true, serial: true},
		{name: "no ranges, until close, digest", behaviours: be(pulltest.NoRanges, pulltest.Frame(pulltest.UntilClose)), serial: true},
		{name: "no ranges, until close, no digest", behaviours: be(pulltest.NoRanges, pulltest.Frame(pulltest.UntilClose)), noDigest: true,
			want: InvalidSource, say: "give the object's digest"},
		{name: "announces no ranges, serves them", behaviours: be(pulltest.Header("Accept-Ranges", "none"))},
		{name: "announces ranges, serves none", behaviours: be(pulltest.NoRanges, pulltest.Header("Accept-Ranges", "bytes")), serial: true},
		{name: "no Content-Range", behaviours: be(pulltest.OnRange(pulltest.NoHeader("Content-Range"))), serial: true, sentMost: 1.4},
		{name: "unparseable Content-Range", behaviours: be(pulltest.OnRange(pulltest.Header("Content-Range", "bytes 0-9"))), serial: true, sentMost: 1.4},
		{name: "unknown total", behaviours: be(pulltest.OnRange(pulltest.Total("*"))), serial: true, sentMost: 1.4},
		{name: "multipart", behaviours: be(pulltest.OnRange(pulltest.Header("Content-Type", "multipart/byteranges; boundary=x"))), serial: true, sentMost: 1.4},
		{name: "weak validator, digest", behaviours: be(pulltest.Header("ETag", `W/"v1"`))},
		{name: "weak validator, no digest", behaviours: be(pulltest.Header("ETag", `W/"v1"`)), noDigest: true, serial: true, sentMost: 1.4},
		{name: "no validator, no digest", behaviours: be(pulltest.NoHeader("ETag")), noDigest: true, serial: true, sentMost: 1.4},
		{name: "an old Last-Modified, no digest", behaviours: be(pulltest.NoHeader("ETag"), pulltest.Header("Last-Modified", "Fri, 01 May 2020 11:00:00 GMT")), noDigest: true},
		{name: "first range shifted by one", behaviours: be(pulltest.OnRange(pulltest.Shifted(1))), serial: true, sentMost: 2.5},
		{name: "later ranges shifted by one", behaviours: be(pulltest.Later(pulltest.Shifted(1))), serial: true, sentMost: 5},
		{name: "later ranges shifted, no digest", behaviours: be(pulltest.Later(pulltest.Shifted(1))), noDigest: true, serial: true, sentMost: 5},
		{name: "short chunked ranges, no digest", behaviours: be(pulltest.Later(pulltest.Frame(pulltest.Chunked), pulltest.ShortBy(100))), noDigest: true, serial: true, sentMost: 8},
		{name: "longer chunked ranges, no digest", behaviours: be(pulltest.Later(pulltest.Frame(pulltest.Chunked), pulltest.Longer(1))), noDigest: true, serial: true, sentMost: 8},
		{name: "another object in the middle, no digest", behaviours: be(pulltest.OnNumber(1, pulltest.Header("ETag", `"v2"`),
			func(x *pulltest.Exchange) { x.Content = other })), noDigest: true, sentMost: 3},
		{name: "later answers without the tag, no digest", behaviours: be(pulltest.Later(pulltest.NoHeader("ETag"))), noDigest: true, serial: true, sentMost: 5},
		{name: "later answers without the tag, digest", behaviours: be(pulltest.Later(pulltest.NoHeader("ETag")))},
		{name: "another total, no digest", behaviours: be(pulltest.Later(pulltest.Total("99999999"))), noDigest: true, serial: true, sentMost: 5},
		{name: "early end, no digest", behaviours: be(pulltest.OnRange(pulltest.EarlyEnd(1<<20 + 17))), noDigest: true},
		{name: "cut in chunks, no digest", behaviours: be(pulltest.OnRange(pulltest.Frame(pulltest.Chunked), pulltest.Cut(2<<20+5))), noDigest: true},
		{name: "one range shifted", behaviours: be(pulltest.OnNumber(2, pulltest.Shifted(1))), sentMost: 1.4},
		{name: "ranges start elsewhere", behaviours: be(pulltest.Later(pulltest.Shifted(-4096))), serial: true, sentMost: 5},
		{name: "ranges end later", behaviours: be(pulltest.Later(func(x *pulltest.Exchange) {
			x.Body.End = min(x.Body.End+10, x.Content.Size())
			x.SetContentRange(x.Body, x.Content.Size())
		})), request: Request{Connections: 1}, serial: true, sentMost: 5},
		{name: "short chunked ranges", behaviours: be(pulltest.Later(pulltest.Frame(pulltest.Chunked), pulltest.ShortBy(100))), serial: true, sentMost: 8},
		{name: "one short chunked range", behaviours: be(pulltest.OnNumber(1, pulltest.Frame(pulltest.Chunked), pulltest.ShortBy(100))), sentMost: 1.4},
		{name: "short first range", behaviours: be(pulltest.OnRange(pulltest.Frame(pulltest.Chunked), pulltest.ShortBy(1))), serial: true, sentMost: 8},
		{name: "longer chunked ranges", behaviours: be(pulltest.Later(pulltest.Frame(pulltest.Chunked), pulltest.Longer(1))), serial: true, sentMost: 8},
		{name: "longer ranges", behaviours: be(pulltest.Later(pulltest.Longer(5))), serial: true, sentMost: 8},
		{name: "wrong Content-Length", behaviours: be(pulltest.Later(pulltest.ContentLength(4096))), serial: true, sentMost: 8},
		{name: "early end", behaviours: be(pulltest.OnRange(pulltest.EarlyEnd(1<<20 + 17)))},
		{name: "first range of one byte", behaviours: be(pulltest.OnRange(pulltest.EarlyEnd(1))), serial: true},
		{name: "another total", behaviours: be(pulltest.Later(pulltest.Total("99999999"))), serial: true, sentMost: 5},
		{name: "later ranges ignored", behaviours: be(pulltest.Later(pulltest.NoRanges)), serial: true, sentMost: 3.5},
		{name: "ranges ignored after a while", behaviours: be(pulltest.After(3, pulltest.NoRanges)), serial: true, sentMost: 4},
		{name: "ranges ignored after a while, no digest", behaviours: be(pulltest.After(3, pulltest.NoRanges)), noDigest: true, serial: true, sentMost: 4},
		{name: "ranges ignored, another total", behaviours: be(pulltest.Later(pulltest.NoRanges, func(x *pulltest.Exchange) {
			x.Body.End -= unitSize
		})), serial: true, sentMost: 10},
		{name: "ranges ignored, empty", behaviours: be(pulltest.Later(pulltest.NoRanges, func(x *pulltest.Exchange) {
			x.Body.End = 0
		})), serial: true, sentMost: 2},
		{name: "ranges ignored, too large", behaviours: be(pulltest.Later(pulltest.NoRanges, pulltest.Longer(1))),
			request: Request{MaxSize: objectSize}, serial: true, sentMost: 10},
		{name: "ranges ignored, until close, no digest", behaviours: be(pulltest.Later(pulltest.NoRanges, pulltest.Frame(pulltest.UntilClose))),
			noDigest: true, serial: true, sentMost: 10},
		{name: "ranges ignored, in chunks, cut short", behaviours: be(pulltest.Later(pulltest.NoRanges, pulltest.Frame(pulltest.Chunked), pulltest.ShortBy(9))), serial: true, sentMost: 5},
		{name: "ranges ignored, connection cut", behaviours: be(pulltest.Later(pulltest.NoRanges, pulltest.Cut(6<<20))), serial: true, sentMost: 5},
		{name: "one later range ignored", behaviours: be(pulltest.OnNumber(1, pulltest.NoRanges)), sentMost: 2.1},
		{name: "an entity tag a connection", behaviours: be(func(x *pulltest.Exchange) {
			x.Header.Set("ETag", fmt.Sprintf(`"%d"`, x.Number))
		})},
		{name: "changed once, found by its tag", behaviours: be(pulltest.OnNumber(2, pulltest.Header("ETag", `"v2"`)))},
		{name: "changed once, found by its tag, no digest", behaviours: be(pulltest.OnNumber(2, pulltest.Header("ETag", `"v2"`))), noDigest: true, sentMost: 2.01},
		{name: "412", behaviours: be(pulltest.Later(pulltest.Status(http.StatusPreconditionFailed))), serial: true, sentMost: 5},
		{name: "416 in the middle", behaviours: be(pulltest.Later(pulltest.Status(http.StatusRequestedRangeNotSatisfiable))), serial: true, sentMost: 5},
		{name: "416 first", behaviours: be(pulltest.OnRange(pulltest.Status(http.StatusRequestedRangeNotSatisfiable))), serial: true},
		{name: "Content-Encoding", behaviours: be(pulltest.Header("Content-Encoding", "gzip")), want: UnsupportedContent, say: "gzip", sentMost: 0.33},
		{name: "Content-Encoding identity", behaviours: be(pulltest.Header("Content-Encoding", "identity"))},
		{name: "Content-Encoding in the middle", behaviours: be(pulltest.Later(pulltest.Header("Content-Encoding", "br"))), want: UnsupportedContent, sentMost: 2.4},
		{name: "reset in the first range", behaviours: be(pulltest.OnNumber(0, pulltest.Reset(1<<20+99))), sentMost: 1.2},
		{name: "every connection ends early", behaviours: be(pulltest.Cut(700 << 10))},
		{name: "every connection is reset", behaviours: be(pulltest.Reset(700 << 10)), sentMost: 12.5}, // what a reset discards is sent again, for as long as retries are left
		{name: "cut in chunks", behaviours: be(pulltest.OnRange(pulltest.Frame(pulltest.Chunked), pulltest.Cut(2<<20+5)))},
		{name: "connection closed without an answer", behaviours: be(pulltest.OnNumber(0, pulltest.Hang), pulltest.OnNumber(3, pulltest.Hang))},
		{name: "no ranges, cut once", behaviours: be(pulltest.NoRanges, pulltest.OnNumber(0, pulltest.Cut(5<<20))), serial: true, sentMost: 1.5},
		{name: "no ranges, always cut", behaviours: be(pulltest.NoRanges, pulltest.Cut(5<<20)), want: SourceUnavailable, sentMost: 1.5},
		{name: "no ranges, chunked, cut", behaviours: be(pulltest.NoRanges, pulltest.Frame(pulltest.Chunked), pulltest.Cut(5<<20)), noDigest: true, want: SourceUnavailable, sentMost: 1.5},
		{name: "no ranges, until close, cut once", behaviours: be(pulltest.NoRanges, pulltest.Frame(pulltest.UntilClose), pulltest.OnNumber(0, pulltest.Cut(5<<20))), serial: true, sentMost: 1.5},
		{name: "no ranges, until close, cut after the head", behaviours: be(pulltest.NoRanges, pulltest.Frame(pulltest.UntilClose), pulltest.OnNumber(0, pulltest.Cut(0))), serial: true, sentMost: 1.01},
		{name: "no ranges, until close, always cut", behaviours: be(pulltest.NoRanges, pulltest.Frame(pulltest.UntilClose), pulltest.Cut(5<<20)), want: DigestMismatch, sentMost: 1.5},
		{name: "503 now and then", behaviours: be(pulltest.When(every(3), pulltest.Status(http.StatusServiceUnavailable)))},
		{name: "500 now and then", behaviours: be(pulltest.When(every(4), pulltest.Status(http.StatusInternalServerError)))},
		{name: "408 now and then", behaviours: be(pulltest.When(every(3), pulltest.Status(http.StatusRequestTimeout)))},
		{name: "502 now and then", behaviours: be(pulltest.When(every(3), pulltest.Status(http.StatusBadGateway)))},
		{name: "504 now and then", behaviours: be(pulltest.When(every(2), pulltest.Status(http.StatusGatewayTimeout)))},
		{name: "429 now and then", behaviours: be(pulltest.When(every(2), pulltest.Status(http.StatusTooManyRequests, "Retry-After", "1")))},
		{name: "connections arrive too fast", behaviours: be(tooFast(4 * time.Millisecond))},
		{name: "one reset in the middle", behaviours: be(pulltest.OnNumber(2, pulltest.Reset(1<<20+5))), sentMost: 1.4},
		{name: "HEAD refused", behaviours: be(pulltest.When(func(x *pulltest.Exchange) bool {
			return x.Request.Method == http.MethodHead
		}, pulltest.Status(http.StatusMethodNotAllowed)))},
		{name: "no headers", behaviours: be(pulltest.Hold(never())), request: Request{StallTimeout: 300 * time.Millisecond}, want: SourceStalled},
		{name: "no headers in the middle", behaviours: be(pulltest.OnNumber(2, pulltest.Hold(never()))), request: Request{StallTimeout: 3 * time.Second}},
		{name: "only two connections served", behaviours: be(pulltest.When(func(x *pulltest.Exchange) bool {
			return x.Number > 0 && x.Asked.Start%(8<<20) != 0 && x.Number < 8
		}, pulltest.Status(http.StatusTooManyRequests)))},
		{name: "401", behaviours: be(pulltest.Status(http.StatusUnauthorized)), want: Forbidden, say: "401", sentMost: 0.1},
		{name: "403", behaviours: be(pulltest.Status(http.StatusForbidden)), want: Forbidden, sentMost: 0.1},
		{name: "403 in the middle", behaviours: be(pulltest.Later(pulltest.Status(http.StatusForbidden))), want: Forbidden},
		{name: "404", behaviours: be(pulltest.Status(http.StatusNotFound)), want: NotFound, say: "check the URL"},
		{name: "410", behaviours: be(pulltest.Status(http.StatusGone)), want: NotFound},
		{name: "400", behaviours: be(pulltest.Status(http.StatusBadRequest)), want: InvalidSource},
		{name: "204", behaviours: be(pulltest.Status(http.StatusNoContent)), want: InvalidSource},
		{name: "429", behaviours: be(pulltest.Status(http.StatusTooManyRequests, "Retry-After", "7")), want: SourceThrottled},
		{name: "503", behaviours: be(pulltest.Status(http.StatusServiceUnavailable)), want: SourceThrottled},
		{name: "500", behaviours: be(pulltest.Status(http.StatusInternalServerError)), want: SourceUnavailable},
		{name: "too large", request: Request{MaxSize: objectSize - 1}, want: TooLarge, say: fmt.Sprint(objectSize), sentMost: 0.33},
		{name: "just not too large", request: Request{MaxSize: objectSize}},
		{name: "too large, no ranges", behaviours: be(pulltest.NoRanges), request: Request{MaxSize: objectSize - 1}, want: TooLarge},
		{name: "too large, chunked", behaviours: be(pulltest.NoRanges, pulltest.Frame(pulltest.Chunked)), request: Request{MaxSize: objectSize - 1}, want: TooLarge},
		{name: "huge total", behaviours: be(pulltest.OnRange(pulltest.Total("9223372036854775807"))), want: TooLarge, sentMost: 0.33},
		{name: "overflowing total", behaviours: be(pulltest.OnRange(pulltest.Total("9223372036854775808"))), want: TooLarge, sentMost: 0.33},
		{name: "negative total", behaviours: be(pulltest.OnRange(pulltest.Total("-1"))), want: InvalidSource, sentMost: 0.33},
		{name: "negative Content-Length", behaviours: be(pulltest.NoRanges, pulltest.ContentLength(-5)), want: InvalidSource},
		{name: "overflowing Content-Length", behaviours: be(pulltest.NoRanges, pulltest.Header("Content-Length", "9223372036854775808")), want: InvalidSource},
		{name: "huge Content-Length", behaviours: be(pulltest.NoRanges, pulltest.Header("Content-Length", "9223372036854775807")), want: TooLarge},
		{name: "login page", behaviours: be(pulltest.Page("application/octet-stream", "<!doctype html><form>")), want: UnsupportedContent, say: "HTML", sentMost: 0.1},
		{name: "login page as 206", behaviours: be(func(x *pulltest.Exchange) {
			page := []byte("<html>" + strings.Repeat(" please log in ", 1000))
			x.Content = pulltest.Bytes(page)
			x.Asked, x.Body = pulltest.Span{End: int64(len(page))}, pulltest.Span{End: int64(len(page))}
			x.SetContentRange(x.Body, int64(len(page)))
		}), want: UnsupportedContent, say: "HTML", sentMost: 0.1},
		{name: "silent from the start", behaviours: be(pulltest.Stall(0)), request: Request{StallTimeout: 300 * time.Millisecond}, want: SourceStalled},
		{name: "silent in the middle", behaviours: be(pulltest.Later(pulltest.Stall(100))), request: Request{StallTimeout: 300 * time.Millisecond}, want: SourceStalled},
		{name: "a byte a second", behaviours: be(pulltest.Later(pulltest.Pace(20))), request: Request{StallTimeout: 700 * time.Millisecond}, want: SourceStalled, say: "fewer than"},
		{name: "one silent connection", behaviours: be(pulltest.OnNumber(2, pulltest.Stall(100))), request: Request{StallTimeout: 3 * time.Second}, sentMost: 1.1},
		{name: "wrong bytes in ranges, right in one response", behaviours: be(pulltest.OnRange(pulltest.Corrupt(probe + 5))), serial: true, sentMost: 2.1},
		{name: "other bytes than the digest's", behaviours: be(func(x *pulltest.Exchange) { x.Content = other }), want: DigestMismatch, say: "correct the digest or the source", sentMost: 2.1},
		{name: "other bytes, no ranges", behaviours: be(pulltest.NoRanges, func(x *pulltest.Exchange) { x.Content = other }), want: DigestMismatch},
		{name: "ignores If-Match", behaviours: be(func(x *pulltest.Exchange) { x.Request.Header.Del("If-Match") })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := pulltest.New(t, object, tt.behaviours...)
			store := openStore(t)
			r := tt.request
			r.URL, r.ImageName = server.URL+"?signature=SECRET", "disk"
			if !tt.noDigest {
				r.Digest = digest
			}
			result, err := store.Pull(t.Context(), r, nil)
			if sent, most := float64(server.BytesSent())/objectSize, max(tt.sentMost, 1.01); sent > most {
				t.Errorf("the server sent %.2f objects, want at most %.2f", sent, most)
			}
			wantReason(t, err, tt.want)
			if err != nil {
				checkFailure(t, store, err, tt.say)
				return
			}
			checkResult(t, store, result, object, digest)
			if result.Parallel == tt.serial {
				t.Errorf("parallel is %t", result.Parallel)
			}
		})
	}
}

func be(behaviours ...pulltest.Behaviour) []pulltest.Behaviour { return behaviours }

// never is a gate that never opens.
func never() <-chan struct{} { return make(chan struct{}) }

// tooFast refuses a connection that comes too soon after another one.
func tooFast(within time.Duration) pulltest.Behaviour {
	var mu sync.Mutex
	last, newest := time.Time{}, -1
	return pulltest.When(func(x *pulltest.Exchange) bool {
		mu.Lock()
		defer mu.Unlock()
		if x.Connection <= newest {
			return false
		}
		soon := time.Since(last) < within
		last, newest = time.Now(), x.Connection
		return soon
	}, pulltest.Status(http.StatusServiceUnavailable))
}

// every admits each n-th request.
func every(n int) func(*pulltest.Exchange) bool {
	return func(x *pulltest.Exchange) bool { return x.Number%n == n-1 }
}

func checkFailure(t *testing.T, store *Store, err error, say string) {
	t.Helper()
	if !strings.Contains(err.Error(), say) || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("error %q, want it to say %q and no secret", err, say)
	}
	if blobs := entries(t, store.blobs.path); len(blobs) > 0 {
		t.Errorf("after a failure there are the blobs %v", blobs)
	}
	if images := entries(t, store.images.path); len(images) > 0 {
		t.Errorf("after a failure there are the images %v", images)
	}
}

func checkResult(t *testing.T, store *Store, result Result, object pulltest.Content, digest string) {
	t.Helper()
	if result.Digest != digest || result.SizeBytes != object.Size() || result.Format != FormatRaw || result.VirtualSizeBytes != object.Size() {
		t.Errorf("result %+v", result)
	}
	if got := fileDigest(t, result.Path); got != digest {
		t.Errorf("%s has the digest %s, want %s", result.Path, got, digest)
	}
	if got := fileDigest(t, store.images.join("disk")); got != digest {
		t.Errorf("images/disk has the digest %s, want %s", got, digest)
	}
	if result.TransferredBytes < object.Size() || result.Duration <= 0 || result.AverageBytesPerSecond <= 0 || result.Connections < 1 {
		t.Errorf("result %+v", result)
	}
}

// TestWholeAnswerOfOtherBytes has a server that sends the whole object instead of
// ranges once a unit is on disk, and bytes in it that differ from that unit: the
// two answers are never mixed, though no digest would tell.
func TestWholeAnswerOfOtherBytes(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	committed := make(chan struct{})
	server := pulltest.New(t, object, pulltest.Later(pulltest.NoRanges, pulltest.Corrupt(5), pulltest.Corrupt(objectSize-5),
		func(x *pulltest.Exchange) { x.Gate = committed }))
	store := openStore(t)
	var once sync.Once
	result, err := store.Pull(t.Context(), Request{URL: server.URL, ImageName: "disk"}, func(p Progress) {
		if p.BytesCompleted >= unitSize {
			once.Do(func() { close(committed) })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	checkResult(t, store, result, object, pulltest.Digest(object))
	if result.Parallel || result.Retries == 0 {
		t.Errorf("parallel is %t after %d retries", result.Parallel, result.Retries)
	}
}

// TestContents pulls objects of every kind, in ranges and as one response.
func TestContents(t *testing.T) {
	t.Parallel()
	qcow2 := pulltest.Qcow2(1, 5<<20, 10<<30)
	backing := bytes.Clone(qcow2)
	backing[15] = 0xff
	small := pulltest.Qcow2(1, 5<<20, 10<<30+100)
	part := bytes.Clone(qcow2) // whose only L2 table was behind its end
	copy(part[3<<16:], []byte{0x80, 0, 0, 0, 0, 0x64, 0, 0})
	luks := append([]byte("LUKS\xba\xbe\x00\x02"), pulltest.RandomBytes(1, 5<<20-8)...)
	gzip := append([]byte("\x1f\x8b\x08\x00"), pulltest.RandomBytes(1, 5<<20)...)
	vhd := append(pulltest.RandomBytes(1, 5<<20), append([]byte("conectix"), make([]byte, 504)...)...)
	tests := []struct {
		name    string
		content []byte
		format  Format
		want    Result
		reason  Reason
	}{
		{"qcow2", qcow2, FormatAuto, Result{Format: FormatQcow2, VirtualSizeBytes: 10 << 30}, ""},
		{"qcow2 of a part of a sector more", small, FormatAuto, Result{Format: FormatQcow2, VirtualSizeBytes: 10 << 30}, ""},
		{"a part of a qcow2", part, FormatAuto, Result{}, UnsupportedContent},
		{"a LUKS volume", luks, FormatAuto, Result{Format: FormatRaw, VirtualSizeBytes: 5 << 20, Encryption: diskimage.EncryptionLUKS}, ""},
		{"one byte", []byte{0}, FormatAuto, Result{}, UnsupportedContent},
		{"one byte as raw", []byte{0}, FormatRaw, Result{Format: FormatRaw, VirtualSizeBytes: 512}, ""},
		{"exactly the first range", make([]byte, probeSize), FormatAuto, Result{Format: FormatRaw, VirtualSizeBytes: probeSize}, ""},
		{"one byte more", make([]byte, probeSize+1), FormatAuto, Result{}, UnsupportedContent},
		{"one byte more, as raw", make([]byte, probeSize+1), FormatRaw, Result{Format: FormatRaw, VirtualSizeBytes: probeSize + 512}, ""},
		{"one sector more", make([]byte, probeSize+512), FormatAuto, Result{Format: FormatRaw, VirtualSizeBytes: probeSize + 512}, ""},
		{"backing file", backing, FormatAuto, Result{}, UnsupportedContent},
		{"backing file, opaque", backing, FormatOpaque, Result{Format: FormatOpaque}, ""},
		{"gzip", gzip, FormatAuto, Result{}, UnsupportedContent},
		{"gzip as raw", gzip, FormatRaw, Result{Format: FormatRaw, VirtualSizeBytes: 5<<20 + 512}, ""},
		{"gzip, opaque", gzip, FormatOpaque, Result{Format: FormatOpaque}, ""},
		{"a VHD by its footer", vhd, FormatRaw, Result{}, UnsupportedContent},
		{"empty", nil, FormatOpaque, Result{}, UnsupportedContent},
	}
	for _, tt := range tests {
		for _, ranges := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/ranges=%t", tt.name, ranges), func(t *testing.T) {
				t.Parallel()
				var behaviours []pulltest.Behaviour
				if !ranges {
					behaviours = be(pulltest.NoRanges)
				}
				server := pulltest.New(t, pulltest.Bytes(tt.content), behaviours...)
				store := openStore(t)
				result, err := store.Pull(t.Context(), Request{URL: server.URL, Format: tt.format}, nil)
				wantReason(t, err, tt.reason)
				if err != nil {
					checkFailure(t, store, err, "")
					return
				}
				parallel := ranges && len(tt.content) > probeSize
				if result.Format != tt.want.Format || result.VirtualSizeBytes != tt.want.VirtualSizeBytes || result.Encryption != tt.want.Encryption || result.Parallel != parallel {
					t.Errorf("result %+v, want %+v", result, tt.want)
				}
			})
		}
	}
}
