package pull

import (
	"mime"
	"net/http"
	"time"
)

// refusalError is an answer in mid-pull that may be about the one request: a
// server that served ranges of the object and wants fewer connections says so in
// many ways.
type refusalError struct{ err error }

// Error implements error.
func (e *refusalError) Error() string { return e.err.Error() }

// Unwrap returns what the answer says by itself.
func (e *refusalError) Unwrap() error { return e.err }

// aboutRequest reports whether an answer that is no range of the object o may be
// about the request, and not about the object, who asks, or the server's state.
func aboutRequest(r *response, o object, digest bool) bool {
	switch status := r.reply.status; status {
	case http.StatusOK, http.StatusPartialContent:
		coded := checkEncoding(r.reply.header, digest) != nil // on its way, after others came plain
		return coded || status == http.StatusOK && otherThan(r.reply, o)
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return false // of the object
	default:
		return !rejects(r) && !retryable(refusal(status, r.reply.header, time.Time{}))
	}
}

// rejects reports whether an answer is about who asks: what was rejected is not shown
// again (RFC 9110 §15.5.2, §15.5.4).
func rejects(r *response) bool {
	switch r.reply.status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		return true
	default:
		return r.reply.status == http.StatusForbidden && r.at.credentials()
	}
}

// otherThan reports whether a whole answer cannot be the object: a page that says
// what is wrong, with a status that does not.
func otherThan(r reply, o object) bool {
	if r.length >= 0 {
		return r.length != o.total
	}
	kind, _, _ := mime.ParseMediaType(r.header.Get("Content-Type"))
	return kind == "text/html"
}

// credentials reports whether a target is sent header fields that may say who asks.
func (t target) credentials() bool {
	for name := range t.header {
		if name != "Host" && name != "User-Agent" {
			return true
		}
	}
	return false
}
