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
	// perhaps is the size at which this may be no object at all, but the range that
	// was asked for, answered with 200 and a body of undeclared length; 0 is none.
	perhaps int64
}

// terms are the conditions of a request that decide what an answer is worth.
type terms struct {
	maxSize int64
	digest  bool    // an expected digest was given, which decides over the bytes
	only    edition // that ranges may have; mixedEdition is any
}

// wants reports whether a range may come in an answer with this header.
func (t terms) wants(h http.Header) bool { return t.only == mixedEdition || editionOf(h) == t.only }

// rangeOf returns the Content-Range of a 206 that holds one range. It is not
// usable when it is missing, doubled or invalid, or the body has several parts.
func rangeOf(h http.Header) (given contentRange, usable bool, err error) {
	values := h.Values("Content-Range")
	if len(values) != 1 || isMultipart(h) {
		return contentRange{}, false, nil
	}
	switch given, err = parseContentRange(values[0]); {
	case err == nil:
		return given, true, nil
	case errors.Is(err, errRangeOverflow):
		return given, false, fail(TooLarge, "the server answers a Content-Range with a size beyond 63 bits")
	case errors.Is(err, errRangeNegative):
		return given, false, fail(InvalidSource, "the server answers a Content-Range with a negative size")
	default:
		return given, false, nil
	}
}

// isMultipart reports whether the body holds several ranges (RFC 9110 §14.6).
func isMultipart(h http.Header) bool {
	mediaType, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(mediaType), "multipart/byteranges")
}

// checkEncoding refuses a coded body: its ranges and its digest are those of
// other bytes. The request allowed identity only. Names that code nothing pass:
// servers repeat what somebody once stored with an object. So does aws-chunked,
// if a digest tells whether the frames of that upload are among the bytes.
func checkEncoding(h http.Header, digest bool) error {
	for _, value := range h.Values("Content-Encoding") {
		for coding := range strings.SplitSeq(value, ",") {
			switch coding = strings.ToLower(strings.TrimSpace(coding)); coding {
			case "", "identity", "none", "binary", "utf-8":
			case "aws-chunked":
				if !digest {
					return fail(UnsupportedContent, "the server sends the object with Content-Encoding aws-chunked, and nothing tells whether its bytes are plain: give the object's digest, or have the server drop the field")
				}
			default:
				return fail(UnsupportedContent, "the server sends the object with Content-Encoding %s although identity was asked for: have it serve the plain bytes", codingName(coding))
			}
		}
	}
	return nil
}

// codingName names a registered content coding; others are the server's own words.
func codingName(coding string) string {
	coding = strings.ToLower(coding)
	switch coding {
	case "aes128gcm", "br", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "x-gzip", "pack200-gzip", "zstd", "aws-chunked":
		return coding
	default:
		return "of another name"
	}
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
	case status == http.StatusProxyAuthRequired: // of an http URL; those of https are tunnelled
		e = proxyWantsCredentials()
	case status == http.StatusNotFound || status == http.StatusGone:
		e = fail(NotFound, "the server answers %d (%s): check the URL", status, text)
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		e = fail(SourceThrottled, "the server answers %d (%s)", status, text).askedToWait(h, now)
	case status == http.StatusRequestTimeout || status >= 500:
		e = fail(SourceUnavailable, "the server answers %d (%s)", status, text).askedToWait(h, now)
		e.final = finalStatus(status)
	default:
		e = fail(InvalidSource, "the server answers %d (%s) instead of the object", status, text)
	}
	return e
}
