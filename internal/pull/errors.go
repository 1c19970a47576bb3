package pull

import (
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

// Reason says in one word why a pull failed. Reasons are part of the contract
// with users: they appear in statuses, events and the JSON of the command line.
type Reason string

// The reasons of a failed pull. A caller may try again after the first five,
// should look again later after InsufficientSpace and StoreBusy, and cannot
// expect another outcome from the rest until the request or the source changes.
const (
	// SourceUnavailable: the server could not be reached, or failed to answer properly.
	SourceUnavailable Reason = "SourceUnavailable"
	// SourceThrottled: the server asked for fewer requests (429 or 503).
	SourceThrottled Reason = "SourceThrottled"
	// SourceStalled: bytes stopped coming, or came too slowly to count.
	SourceStalled Reason = "SourceStalled"
	// SourceChanged: the object changed, again and again, while it was read.
	SourceChanged Reason = "SourceChanged"
	// StorageError: the disk failed to write, sync or return what was written.
	StorageError Reason = "StorageError"

	// InsufficientSpace: the store has no room for the object.
	InsufficientSpace Reason = "InsufficientSpace"
	// StoreBusy: another process holds the store.
	StoreBusy Reason = "StoreBusy"

	// DigestMismatch: the bytes are not those that the digest names.
	DigestMismatch Reason = "DigestMismatch"
	// NotFound: the server says that there is no such object (404, 410).
	NotFound Reason = "NotFound"
	// Forbidden: the server refuses this client (401, 403).
	Forbidden Reason = "Forbidden"
	// InvalidSource: the request or the server's answer cannot lead to an object.
	InvalidSource Reason = "InvalidSource"
	// TooLarge: the object is larger than the request allows.
	TooLarge Reason = "TooLarge"
	// UnsupportedContent: the bytes are not a disk image that the format admits.
	UnsupportedContent Reason = "UnsupportedContent"
	// PolicyDenied: a rule of this side forbids the address or the redirect, or its
	// proxy refuses.
	PolicyDenied Reason = "PolicyDenied"
)

// ErrNotPresent is returned by Adopt when the store does not hold the bytes.
var ErrNotPresent = errors.New("bytes are not in the store")

// ErrReferenced is returned by RemoveBlob while an image's link names the blob.
var ErrReferenced = errors.New("blob is named by an image")

// Error is the failure of a pull or of the store. Its text is fit for a status
// or a log: no URL in it carries userinfo, query or fragment, no character of it
// is one that a terminal obeys, and nothing is repeated that a server said.
type Error struct {
	// Kind is the class of the failure.
	Kind Reason
	// Message says what happened and, where there is one, what to do.
	Message string
	// After is how long the server asked to wait; 0 when it did not.
	After time.Duration
	// Err is the cause, or nil.
	Err error

	// contradiction marks an answer that contradicts the request or itself, so
	// that none of its uncommitted bytes may be kept. Enough of them show that
	// the server's ranges are unusable.
	contradiction bool
	// ignoredRange marks a 200 in answer to a later range.
	ignoredRange bool
	// aboutRange marks a refusal of a range that a request without one may not meet.
	aboutRange bool
	// mixture marks bytes of several editions that together do not have the digest:
	// a part of them is fetched again.
	mixture bool
	// final marks a failure that is worth no second try within this pull,
	// although its reason is one that a later pull may retry.
	final bool
	// unsaid leaves the cause out of the text: a server chose words of it.
	unsaid bool
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Message
	if e.Err != nil && !e.unsaid {
		text += ": " + e.Err.Error()
	}
	return redact.Printable(redact.Text(text))
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Reason returns Kind as a string, for callers that match errors without
// importing this package.
func (e *Error) Reason() string { return string(e.Kind) }

// RetryAfter returns how long the server asked to wait; 0 when it did not.
func (e *Error) RetryAfter() time.Duration { return e.After }

// askedToWait notes how long the server asked to wait, and says it.
func (e *Error) askedToWait(h http.Header, now time.Time) *Error {
	if e.After = parseRetryAfter(h, now); e.After > 0 {
		e.Message += fmt.Sprintf(", and asks to wait %s (Retry-After)", e.After.Round(time.Second))
	}
	return e
}

// reasonOf returns the reason of err, or "" when it carries none.
func reasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

// fail builds an Error without a cause.
func fail(kind Reason, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// failWith builds an Error around its cause.
func failWith(kind Reason, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Err: cause}
}

// contradict builds the Error of an answer that contradicts the request.
func contradict(format string, args ...any) *Error {
	e := fail(SourceUnavailable, format, args...)
	e.contradiction = true
	return e
}

// crowded reports whether err says that the server wants fewer connections: 429
// or 503, or that it refused or reset one.
func crowded(err error) bool {
	return reasonOf(err) == SourceThrottled || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
}

// retryable reports whether a lease that failed with err may be asked for again.
func retryable(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.final {
		return false
	}
	switch e.Kind {
	case SourceUnavailable, SourceThrottled, SourceStalled:
		return true
	default:
		return false
	}
}
