package pull

import (
	"sync"
	"time"
)

const (
	// outagePatience is how long a pull asks a source that fails, without a new
	// byte: an outage that is not longer ends no pull.
	outagePatience = 30 * time.Second
	// maxRefusals is how many requests in a row, with no other one beside them,
	// may be refused before that is the server's last word.
	maxRefusals = 3
)

// outage is what a pull knows of a source that fails. It counts the time without
// progress, over all connections, and while nothing comes it lets one request at a
// time ask: how many connections there are changes neither how long a pull waits
// nor how often it asks. It holds no clock.
type outage struct {
	patience time.Duration // negative: none
	// delay returns the wait before an attempt, counted from 1, given what the
	// server wished.
	delay func(attempt int, wish time.Duration) time.Duration

	mu       sync.Mutex
	since    time.Time // of the first failure; zero: the source serves
	kept     int64     // bytes that the pull had then
	last     time.Time // of the latest failure that counted
	failures int       // of requests that were made one after another
	refusals int       // the last of them, made with no other beside them and refused
	until    time.Time // nobody asks before
	asking   bool      // one request does
}

// failure is a request that failed.
type failure struct {
	sent, now time.Time
	kept      int64         // bytes that the pull has
	attempt   int           // failures in a row of the worker that made the request
	wish      time.Duration // of the server: how long to wait
	refused   bool          // by an answer that may be about this request only
	alone     bool          // no other request was made beside it
}

// failed takes note of a failure and returns how long to wait before the next
// request, and false if there is to be none. Requests that were on their way when
// another one failed tell nothing new.
func (o *outage) failed(f failure) (wait time.Duration, again bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.patience < 0 {
		return 0, false
	}
	if f.alone {
		o.asking = false
	}
	if o.since.IsZero() || o.progress(f.kept) {
		o.since, o.kept, o.last = f.now, f.kept, time.Time{}
		o.failures, o.refusals, o.asking = 0, 0, false
	}
	o.kept = min(o.kept, f.kept) // what turned out wrong was no progress
	if f.sent.After(o.since.Add(o.patience)) {
		return 0, false
	}
	if !f.sent.After(o.last) {
		return max(0, o.until.Sub(f.now)), true
	}
	o.last = f.now
	o.failures++
	switch {
	case !f.refused:
		o.refusals = 0
	case f.alone:
		o.refusals++
	}
	wait = o.delay(max(o.failures, f.attempt), f.wish)
	o.until = f.now
	if o.failures > 1 { // one failure may be that of its connection: another may ask at once
		o.until = f.now.Add(wait)
	}
	return wait, o.refusals < maxRefusals
}

// admits reports whether a request may be made now, and whether it is the one that
// asks for all of them: then ended, served or failed has to follow.
func (o *outage) admits(now time.Time, kept int64) (ok, alone bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() || o.progress(kept) {
		return true, false
	}
	if o.asking || now.Before(o.until) {
		return false, false
	}
	o.asking = true
	return true, true
}

// ended takes note that the one request was not made after all.
func (o *outage) ended() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking = false
}

// served takes note that the one request brought what it asked for.
func (o *outage) served() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking, o.since = false, time.Time{}
}

// progress reports whether the pull got on since the first failure. The caller
// holds mu.
func (o *outage) progress(kept int64) bool { return kept-o.kept >= progressBytes }
