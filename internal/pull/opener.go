package pull

import (
	"errors"
	"time"
)

// opener decides how the first request of a pull is made again. It holds no clock.
type opener struct {
	failing        *outage
	stream         bool // the next request is for the whole object, without Range
	trial          bool // that request shows whether the server refuses ranges only
	tried          bool // there was such a trial
	contradictions int  // answers that contradict the request
	refusals       int  // of requests with Range that one without may not meet
}

// after takes an error of the last request, which was made at sent, and returns how
// long to wait before the next one, and false if there is to be none. Before a
// refusal that may be about the range is final, the object is asked for without one.
func (o *opener) after(err error, sent, now time.Time) (wait time.Duration, again bool) {
	e, ok := errors.AsType[*Error](err)
	trial := o.trial
	o.trial = false
	switch {
	case !ok:
		return 0, false
	case e.contradiction && retryable(err):
		o.contradictions++
		o.stream = o.stream || o.contradictions > 1 // its ranges are wrong, its plain answers need not be
		return o.failing.delay(o.contradictions, 0), o.contradictions < maxContradictions
	case !retryable(err):
		if !e.aboutRange || o.stream {
			return 0, false
		}
		o.stream = true
		return 0, true // the server does not ask to wait
	}
	wait, again = o.failing.failed(failure{sent: sent, now: now, wish: wishOf(err)})
	if trial {
		o.stream = false // it is the server that fails, and not its ranges
		return wait, again
	}
	if e.aboutRange && !o.stream && !o.tried {
		if o.refusals++; o.refusals > 1 || !again {
			o.stream, o.trial, o.tried = true, true, true
			return wait, true
		}
	}
	return wait, again
}
