package pull

import (
	"net/http"
	"time"
)

// question is what was asked for: a column of the table of proofs.
type question int

const (
	askFirst question = iota // for a range, while nothing is known of the object
	askWhole                 // for the whole object, without Range
	askLater                 // for a range of an object that is known
)

// answer is what the head of a response shows by itself: a row of the table.
type answer int

const (
	wholeObject  answer = iota // 200, or 206 with `bytes 0-(n-1)/n`: all there is
	rangeAsked                 // 206 from where it was asked to begin, to there or to an earlier end
	rangeOther                 // 206 with bytes from elsewhere, or of another length than it says
	rangeVague                 // 206 that does not say which bytes, or of how many
	partAs200                  // 200 with evidence that its body is only a part
	unsatisfied                // 416
	changedSince               // 412
	refusedRange               // a refusal that may be about the Range alone
	refused                    // a refusal that is about something else
)

// proof is what an answer is worth to the one who asked.
type proof int

const (
	takeRange   proof = iota // the body is (the begin of) the range
	takeWhole                // the body is the whole object
	askPlain                 // nothing yet: ask for the whole object, without Range
	refusePlain              // a refusal; a request without Range may fare better
	refuse                   // a refusal
	onlyPart                 // a refusal: a part, where the whole object was asked for
	ignored                  // the whole object instead of the range: after a second one it is the stream
	contradicts              // the server contradicts the request or itself: nothing of it is kept
	itChanged                // the object is another one by now
)

// proofs is what one answer proves, and what it does not. An answer is believed
// where its parts agree, and never trimmed to fit: what is shifted shows that the
// server's numbers cannot be relied on. docs/engine.md has the same table.
var proofs = [...][3]proof{
	//             first range  whole     later range
	wholeObject:  {takeWhole, takeWhole, ignored},
	rangeAsked:   {takeRange, onlyPart, takeRange},
	rangeOther:   {contradicts, onlyPart, contradicts},
	rangeVague:   {askPlain, onlyPart, contradicts},
	partAs200:    {askPlain, onlyPart, contradicts},
	unsatisfied:  {askPlain, refuse, itChanged},
	changedSince: {refusePlain, refuse, itChanged},
	refusedRange: {refusePlain, refuse, refuse},
	refused:      {refuse, refuse, refuse},
}

// reading is an answer next to what was asked for.
type reading struct {
	reply reply
	asked span
	known object
	terms terms

	given  contentRange
	usable bool // given is one range, well formed
}

// prove returns what the answer to a question proves. Its error is of an answer
// that proves nothing, whatever was asked. known is of askLater.
func prove(r reply, q question, asked span, known object, t terms) (reading, proof, error) {
	a := reading{reply: r, asked: asked, known: known, terms: t}
	if r.status != http.StatusOK && r.status != http.StatusPartialContent {
		return a, proofs[refusalOf(r.status)][q], nil
	}
	err := checkEncoding(r.header, t.digest)
	if err == nil {
		a.given, a.usable, err = rangeOf(r.header)
	}
	if err != nil {
		return a, 0, err
	}
	if r.status == http.StatusOK {
		return a, proofs[a.of200(q)][q], nil
	}
	return a, proofs[a.of206(q)][q], nil
}

// refusalOf returns the row of a status that carries no object. 401, 407, 429 and
// 503 are about who asks and how often, and 408 about when: a Range changes nothing.
func refusalOf(status int) answer {
	switch {
	case status == http.StatusRequestedRangeNotSatisfiable:
		return unsatisfied
	case status == http.StatusPreconditionFailed:
		return changedSince
	case status == http.StatusUnauthorized, status == http.StatusProxyAuthRequired, status == http.StatusRequestTimeout,
		status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, status < http.StatusBadRequest:
		return refused
	default:
		return refusedRange
	}
}

// of200 tells the whole object from a part of it that is sent as 200: a
// Content-Range says so, several parts in one body are none, and a body just as
// long as the range may be that range. A digest tells for itself whether a plain
// answer is the object, unless it is sure to be a part.
func (a *reading) of200(q question) answer {
	length := a.reply.length
	switch {
	case isMultipart(a.reply.header):
		return partAs200
	case len(a.reply.header.Values("Content-Range")) == 0:
		if q == askFirst && length == a.asked.len() || q == askLater && length == a.asked.len() && length != a.known.total {
			return partAs200
		}
	case a.complete():
	case q == askWhole && a.terms.digest && !a.surelyPart():
	default:
		return partAs200
	}
	return wholeObject
}

// surelyPart reports whether the body of a 200 is shorter than the object it says
// it is of, or several parts.
func (a *reading) surelyPart() bool {
	length := a.reply.length
	return isMultipart(a.reply.header) || a.usable && a.given.total >= 0 && length >= 0 && length != a.given.total
}

func (a *reading) of206(q question) answer {
	given, length := a.given, a.reply.length
	framed := length < 0 || length == given.span.len()
	switch {
	case !a.usable, q == askFirst && given.total < 0:
		return rangeVague
	case q == askWhole && a.complete():
		return wholeObject
	case framed && given.span.start == a.asked.start && given.span.end <= a.asked.end:
		return rangeAsked
	case a.complete():
		return wholeObject
	default:
		return rangeOther
	}
}

// complete reports whether Content-Range says that the body is all there is, and
// the length of the body does not deny it.
func (a *reading) complete() bool {
	return a.usable && a.given.span == span{0, a.given.total} && (a.reply.length < 0 || a.reply.length == a.given.total)
}

// whole returns what an answer with the whole object says about it.
func (a *reading) whole(q question) (object, error) {
	o := object{total: a.reply.length, validator: validatorOf(a.reply.header)}
	if a.usable && a.given.total >= 0 {
		o.total = a.given.total
	}
	o.unframed = o.total < 0 && !a.reply.chunked
	if q == askFirst && o.total < 0 {
		o.perhaps = a.asked.len()
	}
	switch {
	case o.total == 0:
		return o, fail(UnsupportedContent, "the object is empty: check that the URL names the image itself")
	case o.total > a.terms.maxSize:
		return o, tooLarge(o.total, a.terms.maxSize)
	case o.unframed && !a.terms.digest:
		return o, fail(InvalidSource, "the server marks the end of the object only by closing the connection, so that a cut would go unseen: give the object's digest")
	}
	return o, nil
}

// err returns the error that a proof of nothing comes to, or nil.
func (a *reading) err(p proof) error {
	switch p {
	case refuse, refusePlain:
		e := refusal(a.reply.status, a.reply.header, time.Now())
		e.aboutRange = p == refusePlain
		return e
	case onlyPart:
		return a.part()
	case ignored:
		e := contradict("the server answers a range with the whole object, after it answered one with a part")
		e.ignoredRange = true
		return e
	case contradicts:
		return a.contradiction()
	case itChanged:
		return fail(SourceChanged, "the object changed while it was read: the server answers %d to %s", a.reply.status, a.asked.header())
	default:
		return nil
	}
}

// part is the error of a plain answer that is, or says that it may be, only a part.
func (a *reading) part() error {
	const text = "the server answers a request for the whole object with %d and what it says is a part: have it serve the object as a whole"
	if a.reply.status == http.StatusOK && !a.terms.digest && !a.surelyPart() {
		return fail(InvalidSource, text+", or give the object's digest", a.reply.status)
	}
	return fail(InvalidSource, text, a.reply.status)
}

func (a *reading) contradiction() error {
	given := a.given.span
	switch {
	case a.reply.status == http.StatusOK:
		return contradict("the server answers %s with 200 and what may be only a part", a.asked.header())
	case !a.usable:
		return contradict("the server answers %s without a usable Content-Range", a.asked.header())
	case given.start != a.asked.start || given.end > a.asked.end:
		return contradict("the server answers %s with %s", a.asked.header(), given.header())
	default:
		return contradict("the server answers %s with a body of %d bytes", given.header(), a.reply.length)
	}
}
