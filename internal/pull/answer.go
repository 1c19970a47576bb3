package pull

import (
	"errors"
	"net/http"
	"strings"
	"time"
)

// reply is what the head of a response says.
type reply struct {
	status  int
	header  http.Header
	length  int64 // Content-Length of the body; -1 when undeclared
	chunked bool
}

// object is what the answers so far say about the whole object.
type object struct {
	total     int64 // bytes; -1 while unknown
	validator validator
	unframed  bool // the connection's end is that of the object, so that a cut looks the same (RFC 9112 §8)
}

// terms are the conditions of a request that decide what an answer is worth.
type terms struct {
	maxSize int64
	digest  bool // an expected digest was given, which decides over the bytes
}

// opening is what the answer to the first request leads to.
type opening int

const (
	openRanges opening = iota // the body is the first range; more can be asked for
	openStream                // the body is the whole object
	openRest                  // so it is, and a part of it is on disk already
	openAgain                 // the body is of no use: ask for the whole object without Range
)

// judgeFirst decides what the answer to the first request, which asked for the
// range asked, leads to. The span is what the body holds.
func judgeFirst(r reply, asked span, t terms) (opening, object, span, error) {
	switch r.status {
	case http.StatusPartialContent:
	case http.StatusRequestedRangeNotSatisfiable:
		return openAgain, object{}, span{}, nil
	default:
		o, err := judgeWhole(r, t)
		return openStream, o, span{0, o.total}, err
	}
	if err := checkEncoding(r.header); err != nil {
		return 0, object{}, span{}, err
	}
	given, usable, err := rangeOf(r.header)
	if err != nil {
		return 0, object{}, span{}, err
	}
	if !usable || given.total < 0 {
		return openAgain, object{}, span{}, nil
	}
	o := object{total: given.total, validator: validatorOf(r.header)}
	if o.total > t.maxSize {
		return 0, o, span{}, tooLarge(o.total, t.maxSize)
	}
	if err := checkSpan(r, given, asked); err != nil {
		return 0, o, span{}, err
	}
	if !o.validator.strong() && !t.digest {
		// Nothing would tell whether ranges belong together (RFC 9110
		// §15.3.7.3): the object has to come in one response, as this one may be.
		if given.span == (span{0, o.total}) {
			return openStream, o, given.span, nil
		}
		return openAgain, object{}, span{}, nil
	}
	return openRanges, o, given.span, nil
}

// judgeWhole decides about the answer to a request for the whole object.
func judgeWhole(r reply, t terms) (object, error) {
	if r.status != http.StatusOK {
		return object{}, refusal(r.status, r.header, time.Now())
	}
	if err := checkEncoding(r.header); err != nil {
		return object{}, err
	}
	o := object{total: r.length, validator: validatorOf(r.header), unframed: r.length < 0 && !r.chunked}
	switch {
	case r.length == 0:
		return o, fail(UnsupportedContent, "the object is empty")
	case r.length > t.maxSize:
		return o, tooLarge(r.length, t.maxSize)
	case o.unframed && !t.digest:
		return o, fail(InvalidSource, "the server marks the end of the object only by closing the connection, so that a cut would go unseen: give the object's digest")
	}
	return o, nil
}

// judgeLater decides about the answer to a later request for the range asked.
// The span is what the body holds: it begins where asked, and may end earlier,
// which RFC 9110 §15.3.7 allows.
func judgeLater(r reply, asked span, o object, t terms) (span, error) {
	switch r.status {
	case http.StatusPartialContent:
	case http.StatusOK:
		e := contradict("the server answers 200 to a range, after it answered 206")
		e.ignoredRange = true
		return span{}, e
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return span{}, fail(SourceChanged, "the object changed while it was read: the server answers %d to %s", r.status, asked.header())
	default:
		return span{}, refusal(r.status, r.header, time.Now())
	}
	if err := checkEncoding(r.header); err != nil {
		return span{}, err
	}
	given, usable, err := rangeOf(r.header)
	if err != nil {
		return span{}, err
	}
	if !usable {
		return span{}, contradict("the server answers %s without a usable Content-Range", asked.header())
	}
	if given.total >= 0 && given.total != o.total {
		return span{}, fail(SourceChanged, "the object changed while it was read: it had %d bytes and has %d", o.total, given.total)
	}
	if o.validator.contradictedBy(r.header, !t.digest) {
		return span{}, fail(SourceChanged, "the object changed while it was read: its validator is another")
	}
	if err := checkSpan(r, given, asked); err != nil {
		return span{}, err
	}
	return given.span, nil
}

// rangeOf returns the Content-Range of a 206 that holds one range. It is not
// usable when it is missing, doubled or invalid, or the body has several parts.
func rangeOf(h http.Header) (given contentRange, usable bool, err error) {
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	values := h.Values("Content-Range")
	if len(values) != 1 || strings.EqualFold(strings.TrimSpace(mediaType), "multipart/byteranges") {
		return contentRange{}, false, nil
	}
	switch given, err = parseContentRange(values[0]); {
	case err == nil:
		return given, true, nil
	case errors.Is(err, errRangeOverflow):
		return given, false, fail(TooLarge, "the server answers Content-Range %.80q, a size beyond 63 bits", values[0])
	case errors.Is(err, errRangeNegative):
		return given, false, fail(InvalidSource, "the server answers Content-Range %.80q, a negative size", values[0])
	default:
		return given, false, nil
	}
}

// checkSpan refuses a 206 that starts elsewhere, ends later, or whose declared
// length is not that of its range. What is shifted is never trimmed to fit: the
// server has shown that its numbers cannot be relied on.
func checkSpan(r reply, given contentRange, asked span) error {
	switch {
	case given.span.start != asked.start || given.span.end > asked.end:
		return contradict("the server answers %s with %s", asked.header(), given.span.header())
	case r.length >= 0 && r.length != given.span.len():
		return contradict("the server answers %s with a body of %d bytes", given.span.header(), r.length)
	}
	return nil
}

// checkEncoding refuses a coded body: its ranges and its digest are those of
// other bytes. The request allowed identity only.
func checkEncoding(h http.Header) error {
	for _, value := range h.Values("Content-Encoding") {
		for coding := range strings.SplitSeq(value, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "identity") {
				return fail(UnsupportedContent, "the server sends the object with Content-Encoding %.40q although identity was asked for: have it serve the plain bytes", coding)
			}
		}
	}
	return nil
}

// refusal is the error for a status that carries no object.
func refusal(status int, h http.Header, now time.Time) *Error {
	text := http.StatusText(status)
	if text == "" {
		text = "no standard meaning"
	}
	var e *Error
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e = fail(Forbidden, "the server answers %d (%s): check the credentials", status, text)
	case status == http.StatusNotFound || status == http.StatusGone:
		e = fail(NotFound, "the server answers %d (%s): check the URL", status, text)
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		e = fail(SourceThrottled, "the server answers %d (%s)", status, text)
		e.After = parseRetryAfter(h, now)
	case status == http.StatusRequestTimeout || status >= 500:
		e = fail(SourceUnavailable, "the server answers %d (%s)", status, text)
		e.After = parseRetryAfter(h, now)
		e.final = finalStatus(status)
	default:
		e = fail(InvalidSource, "the server answers %d (%s) instead of the object", status, text)
	}
	return e
}
