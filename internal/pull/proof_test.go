package pull

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// cell is a place in the table of proofs.
type cell struct {
	answer   answer
	question question
}

// proofTest has a server give an answer of one kind to a question of one kind.
type proofTest struct {
	name     string
	cell     cell
	be       []pulltest.Behaviour
	noDigest bool
	size     int // of the object; 0 is objectSize
	want     Reason
	serial   bool
	requests int     // most that the server gets
	sent     float64 // most that it sends, in objects; 0 is 1.01
}

// noRange makes the engine ask for the whole object, at the cost of a refused range.
var noRange = pulltest.OnRange(pulltest.Status(http.StatusRequestedRangeNotSatisfiable))

func proofTests() []proofTest {
	const ranges = 4 // requests that bring objectSize in ranges
	asPart := pulltest.OnRange(pulltest.As200)
	noField := pulltest.NoHeader("Content-Range")
	chunked := pulltest.Frame(pulltest.Chunked)
	multipart := pulltest.Header("Content-Type", "multipart/byteranges; boundary=x")
	status := func(code int) pulltest.Behaviour { return pulltest.Status(code) }
	tests := []proofTest{
		{name: "200", cell: cell{wholeObject, askFirst}, be: be(pulltest.NoRanges), noDigest: true, serial: true, requests: 1},
		{name: "200 that says all", cell: cell{wholeObject, askFirst}, be: be(pulltest.Whole206, pulltest.As200), noDigest: true, serial: true, requests: 1},
		{name: "206 of all", cell: cell{wholeObject, askFirst}, be: be(pulltest.Whole206), serial: true, requests: 1},
		{name: "206 of all, no digest", cell: cell{wholeObject, askFirst}, be: be(pulltest.Whole206), noDigest: true, serial: true, requests: 1},
		{name: "206 of all, no validator", cell: cell{wholeObject, askFirst}, be: be(pulltest.Whole206, pulltest.NoHeader("ETag")), noDigest: true, serial: true, requests: 1},
		{name: "206 of all, chunked", cell: cell{wholeObject, askFirst}, be: be(pulltest.Whole206, chunked), noDigest: true, serial: true, requests: 1},
		{name: "206 of all, until close", cell: cell{wholeObject, askFirst}, be: be(pulltest.Whole206, pulltest.Frame(pulltest.UntilClose)), noDigest: true, serial: true, requests: 1},
		{name: "206 of all, cut in chunks", cell: cell{wholeObject, askFirst}, be: be(pulltest.Whole206, pulltest.OnNumber(0, chunked, pulltest.ShortBy(9))), noDigest: true, serial: true, requests: 2, sent: 2.01},
		{name: "206 of all, where a range is refused", cell: cell{wholeObject, askWhole}, be: be(pulltest.Whole206, noRange), noDigest: true, serial: true, requests: 2},
		{name: "206 of all to later ranges", cell: cell{wholeObject, askLater}, be: be(pulltest.Later(pulltest.Whole206)), noDigest: true, serial: true, requests: ranges + 1, sent: 4},
		{name: "200 to later ranges", cell: cell{wholeObject, askLater}, be: be(pulltest.Later(pulltest.NoRanges)), noDigest: true, serial: true, requests: ranges + 1, sent: 4},

		{name: "206", cell: cell{rangeAsked, askFirst}, noDigest: true, requests: ranges},
		{name: "206 to later ranges", cell: cell{rangeAsked, askLater}, be: be(pulltest.Later(chunked)), noDigest: true, requests: ranges},
		{name: "206 of a part to a plain request", cell: cell{rangeAsked, askWhole}, be: be(noRange, pulltest.Plain(pulltest.Part(probeSize))), want: InvalidSource, requests: 2, sent: 0.5},
		{name: "206 from elsewhere", cell: cell{rangeOther, askFirst}, be: be(pulltest.OnRange(pulltest.Shifted(1))), noDigest: true, serial: true, requests: 3, sent: 1.7},
		{name: "206 from elsewhere to a plain request", cell: cell{rangeOther, askWhole}, be: be(noRange, pulltest.Plain(pulltest.Part(probeSize), pulltest.Shifted(1))), want: InvalidSource, requests: 2, sent: 0.5},
		{name: "206 from elsewhere to later ranges", cell: cell{rangeOther, askLater}, be: be(pulltest.Later(pulltest.Shifted(1))), noDigest: true, serial: true, requests: 1 + 3*ranges, sent: 5},
		{name: "206 of what", cell: cell{rangeVague, askFirst}, be: be(pulltest.OnRange(noField)), noDigest: true, serial: true, requests: 2, sent: 1.4},
		{name: "206 of what, to a plain request", cell: cell{rangeVague, askWhole}, be: be(noRange, pulltest.Plain(pulltest.Part(probeSize), noField)), want: InvalidSource, requests: 2, sent: 0.5},
		{name: "206 of what, to later ranges", cell: cell{rangeVague, askLater}, be: be(pulltest.Later(noField)), noDigest: true, serial: true, requests: 1 + 3*ranges, sent: 5},

		{name: "a part as 200", cell: cell{partAs200, askFirst}, be: be(asPart), serial: true, requests: 2, sent: 1.4},
		{name: "a part as 200, no digest", cell: cell{partAs200, askFirst}, be: be(asPart), noDigest: true, serial: true, requests: 2, sent: 1.4},
		{name: "a part as 200 in chunks, no digest", cell: cell{partAs200, askFirst}, be: be(asPart, pulltest.OnRange(chunked)), noDigest: true, serial: true, requests: 2, sent: 1.4},
		{name: "a part as 200, no Content-Range", cell: cell{partAs200, askFirst}, be: be(asPart, noField), serial: true, requests: 2, sent: 1.4},
		{name: "a part as 200, no Content-Range, no digest", cell: cell{partAs200, askFirst}, be: be(asPart, noField), noDigest: true, serial: true, requests: 2, sent: 1.4},
		{name: "a part as 200 in chunks, no Content-Range", cell: cell{partAs200, askFirst}, be: be(asPart, noField, pulltest.OnRange(chunked)), serial: true, requests: 2, sent: 1.4},
		{name: "a part as 200 in chunks, no Content-Range, no digest", cell: cell{partAs200, askFirst}, be: be(asPart, noField, pulltest.OnRange(chunked)), noDigest: true, serial: true, requests: 2, sent: 1.4},
		{name: "an object as long as the range", cell: cell{partAs200, askFirst}, be: be(pulltest.NoRanges), size: probeSize, noDigest: true, serial: true, requests: 2, sent: 2},
		{name: "an object as long as the range, in chunks", cell: cell{wholeObject, askFirst}, be: be(pulltest.NoRanges, chunked), size: probeSize, noDigest: true, serial: true, requests: 2, sent: 2},
		{name: "an object as long as the range, in chunks, digest", cell: cell{wholeObject, askFirst}, be: be(pulltest.NoRanges, chunked), size: probeSize, serial: true, requests: 1},
		{name: "several parts as 200", cell: cell{partAs200, askFirst}, be: be(pulltest.OnRange(pulltest.NoRanges, multipart)), noDigest: true, serial: true, requests: 2, sent: 2},
		{name: "a part as 200 to a plain request", cell: cell{partAs200, askWhole}, be: be(asPart, pulltest.Plain(pulltest.Part(probeSize), pulltest.As200)), noDigest: true, want: InvalidSource, requests: 2, sent: 0.7},
		{name: "a part as 200 to a plain request, digest", cell: cell{partAs200, askWhole}, be: be(asPart, pulltest.Plain(pulltest.Part(probeSize), pulltest.As200)), want: InvalidSource, requests: 2, sent: 0.7},
		{name: "a part as 200 in chunks to a plain request", cell: cell{partAs200, askWhole}, be: be(asPart, pulltest.Plain(pulltest.Part(probeSize), pulltest.As200, chunked)), noDigest: true, want: InvalidSource, requests: 2, sent: 0.7},
		{name: "a part as 200 to a plain request, by what was said before", cell: cell{wholeObject, askWhole}, be: be(asPart, pulltest.Plain(pulltest.Part(probeSize), pulltest.As200, noField)), noDigest: true, want: SourceChanged, requests: 2, sent: 0.7},
		{name: "a part as 200 in chunks to a plain request, by what was said before", cell: cell{wholeObject, askWhole}, be: be(asPart, pulltest.Plain(pulltest.Part(probeSize), pulltest.As200, noField, chunked)), noDigest: true, want: SourceUnavailable, requests: 3, sent: 1.1},
		{name: "all as 200 in chunks, as was said before", cell: cell{wholeObject, askWhole}, be: be(asPart, pulltest.Plain(chunked)), noDigest: true, serial: true, requests: 2, sent: 1.4},
		{name: "all as 200 that says a part, digest", cell: cell{wholeObject, askWhole}, be: be(asPart, pulltest.Plain(pulltest.Header("Content-Range", fmt.Sprintf("bytes 0-99/%d", objectSize)))), serial: true, requests: 2, sent: 1.4},
		{name: "several parts as 200 to a plain request", cell: cell{partAs200, askWhole}, be: be(pulltest.NoRanges, multipart), want: InvalidSource, requests: 2, sent: 2},
		{name: "a part as 200 to later ranges", cell: cell{partAs200, askLater}, be: be(pulltest.Later(pulltest.As200)), noDigest: true, serial: true, requests: 1 + 3*ranges, sent: 5},
		{name: "a part as 200 to later ranges, in chunks", cell: cell{partAs200, askLater}, be: be(pulltest.Later(pulltest.As200, chunked)), noDigest: true, serial: true, requests: 1 + 3*ranges, sent: 5},
		{name: "a part as 200 to later ranges, no Content-Range", cell: cell{partAs200, askLater}, be: be(pulltest.Later(pulltest.As200, noField)), noDigest: true, serial: true, requests: 1 + 3*ranges, sent: 5},

		{name: "416", cell: cell{unsatisfied, askFirst}, be: be(noRange), noDigest: true, serial: true, requests: 2},
		{name: "416 to everything", cell: cell{unsatisfied, askWhole}, be: be(status(416)), want: InvalidSource, requests: 2},
		{name: "416 to later ranges", cell: cell{unsatisfied, askLater}, be: be(pulltest.Later(status(416))), noDigest: true, serial: true, requests: 1 + 2*ranges, sent: 3},
		{name: "412", cell: cell{changedSince, askFirst}, be: be(pulltest.OnRange(status(412))), noDigest: true, serial: true, requests: 2},
		{name: "412 to everything", cell: cell{changedSince, askWhole}, be: be(status(412)), want: InvalidSource, requests: 2},
		{name: "412 to later ranges", cell: cell{changedSince, askLater}, be: be(pulltest.Later(status(412))), noDigest: true, serial: true, requests: 1 + 2*ranges, sent: 3},
	}
	return append(tests, refusalTests()...)
}

// refusalTests refuse the request for a range, or every request.
func refusalTests() (tests []proofTest) {
	for _, code := range []int{400, 403, 404, 405, 406, 410, 413, 500, 501, 502, 504} {
		const requests = 2 // asked once, and once without Range
		tests = append(tests,
			proofTest{name: fmt.Sprint(code, " to a range"), cell: cell{refusedRange, askFirst}, be: be(pulltest.OnRange(pulltest.Status(code))), noDigest: true, serial: true, requests: requests},
			proofTest{name: fmt.Sprint(code, " to everything"), cell: cell{refusedRange, askWhole}, be: be(pulltest.Status(code)), want: refusal(code, nil, time.Time{}).Kind, requests: requests})
	}
	for code, requests := range map[int]int{401: 1, 407: 1, 429: 1, 503: 1, 204: 1} {
		want := refusal(code, nil, time.Time{}).Kind
		tests = append(tests,
			proofTest{name: fmt.Sprint(code, " to a range"), cell: cell{refused, askFirst}, be: be(pulltest.OnRange(pulltest.Status(code))), want: want, requests: requests},
			proofTest{name: fmt.Sprint(code, " to a plain request"), cell: cell{refused, askWhole}, be: be(noRange, pulltest.Plain(pulltest.Status(code))), want: want, requests: 2 * requests})
	}
	// While the first answer still brings bytes, those that were refused may ask once more.
	return append(tests,
		proofTest{name: "405 to later ranges", cell: cell{refusedRange, askLater}, be: be(pulltest.Later(pulltest.Status(405))), want: InvalidSource, requests: 1 + 4*startConnections + maxRefusals},
		proofTest{name: "401 to later ranges", cell: cell{refused, askLater}, be: be(pulltest.Later(pulltest.Status(401))), want: Forbidden, requests: 1 + startConnections})
}

// TestProofs goes through the table of what one answer proves, with at least one
// server for each of its cells, and counts what the server is asked for.
func TestProofs(t *testing.T) {
	t.Parallel()
	met := map[cell]bool{}
	for _, tt := range proofTests() {
		met[tt.cell] = true
		t.Run(tt.name, func(t *testing.T) { t.Parallel(); tt.run(t) })
	}
	for a := range proofs {
		for q := range proofs[a] {
			if c := (cell{answer(a), question(q)}); !met[c] {
				t.Errorf("no server gives the answer of row %d to the question of column %d", a, q)
			}
		}
	}
}

func (tt proofTest) run(t *testing.T) {
	t.Helper()
	if tt.size == 0 {
		tt.size = objectSize
	}
	object := pulltest.Random(1, tt.size)
	server := pulltest.New(t, object, tt.be...)
	store := openStore(t)
	r := Request{URL: server.URL, ImageName: "disk", Patience: AskOnce}
	if !tt.noDigest {
		r.Digest = pulltest.Digest(object)
	}
	result, err := store.Pull(t.Context(), r, nil)
	server.Close() // then its log is complete
	if n := len(server.Log()); n > tt.requests {
		t.Errorf("the server got %d requests, want at most %d", n, tt.requests)
	}
	if sent, most := float64(server.BytesSent())/float64(tt.size), max(tt.sent, 1.01); sent > most {
		t.Errorf("the server sent %.2f objects, want at most %.2f", sent, most)
	}
	wantReason(t, err, tt.want)
	if err != nil {
		checkFailure(t, store, err, "")
		return
	}
	checkResult(t, store, result, object, pulltest.Digest(object))
	if result.Parallel == tt.serial {
		t.Errorf("parallel is %t", result.Parallel)
	}
}

// TestCodings sends the object with a Content-Encoding, by which only some names
// say that the bytes are others.
func TestCodings(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, objectSize)
	const never, digest, always = 0, 1, 2 // when it passes
	for coding, passes := range map[string]int{
		"identity": always, "none": always, "binary": always, "utf-8": always, "UTF-8": always, "": always, "identity, none": always,
		"aws-chunked": digest, "AWS-Chunked, identity": digest, "aws-chunked,": digest,
		"gzip": never, "br": never, "zstd": never, "deflate": never, "aws-chunked, gzip": never, "x-gzip": never, "base64": never,
	} {
		for _, noRanges := range []bool{false, true} {
			for _, known := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/whole=%t/digest=%t", coding, noRanges, known), func(t *testing.T) {
					t.Parallel()
					behaviours := be(pulltest.Header("Content-Encoding", coding))
					if noRanges {
						behaviours = append(behaviours, pulltest.NoRanges)
					}
					server := pulltest.New(t, object, behaviours...)
					r := Request{URL: server.URL, Connections: 1}
					if known {
						r.Digest = pulltest.Digest(object)
					}
					want := Reason("")
					if passes == never || passes == digest && !known {
						want = UnsupportedContent
					}
					_, err := openStore(t).Pull(t.Context(), r, nil)
					server.Close()
					wantReason(t, err, want)
					if err != nil && len(server.Log()) != 1 {
						t.Errorf("the server got %d requests", len(server.Log()))
					}
				})
			}
		}
	}
}
