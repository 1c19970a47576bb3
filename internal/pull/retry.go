package pull

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

const (
	// maxContradictions is how many answers to one lease may contradict the
	// request: it may be one bad proxy of several, but each costs up to a lease.
	maxContradictions = 3
	// progressBytes received since a failure start the count again.
	progressBytes = 64 << 10
	backoffBase   = 250 * time.Millisecond
	backoffCap    = 8 * time.Second
	// retryAfterCap bounds how long a server can make one connection wait; a
	// longer wish travels to the caller in the error.
	retryAfterCap = 30 * time.Second
)

// backoff returns the wait before an attempt, counted from 1 (0 is as 1): exponential
// with full jitter, random being uniform in [0,1). A server's own wish, capped, is
// the least; jitter on top of it keeps nodes that were refused together apart.
func backoff(attempt int, wish time.Duration, random float64) time.Duration {
	ceiling := backoffCap
	if shift := max(0, attempt-1); shift < 10 {
		ceiling = min(backoffCap, backoffBase<<shift)
	}
	return min(wish, retryAfterCap) + time.Duration(random*float64(ceiling))
}

// finalStatus reports whether a status of the server's own failures is the same
// however often it is asked for (RFC 9110 §15.6, RFC 2774, RFC 5842, RFC 6585).
func finalStatus(status int) bool {
	switch status {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusVariantAlsoNegotiates,
		http.StatusLoopDetected, http.StatusNotExtended, http.StatusNetworkAuthenticationRequired:
		return true
	default:
		return false
	}
}

// parseRetryAfter reads Retry-After as seconds or as a date (RFC 9110 §10.2.3).
// It returns 0 for what is absent, unreadable or in the past, and at most a day.
func parseRetryAfter(h http.Header, now time.Time) time.Duration {
	const most = 24 * time.Hour
	value := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := parseDigits(value); err == nil {
		return time.Duration(min(seconds, int64(most/time.Second))) * time.Second
	} else if errors.Is(err, errRangeOverflow) {
		return most
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(0, date.Sub(now)), most)
}

// pause waits for d or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
