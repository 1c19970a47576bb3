package pull

import (
	"math"
	"net/http"
)

// opening is what the answer to the first request leads to.
type opening int

const (
	openRanges opening = iota // the body is the first range; more can be asked for
	openStream                // the body is the whole object
	openRest                  // so it is, and a part of it is on disk already
	openAgain                 // the body is of no use: ask for the whole object without Range
)

// judgeFirst decides what the answer to the first request, which asked for the
// range asked, leads to. The span is what the body holds. Of openAgain there is no
// more than the size of the object, if the answer says it.
func judgeFirst(r reply, asked span, t terms) (opening, object, span, error) {
	a, p, err := prove(r, askFirst, asked, object{}, t)
	if err != nil {
		return 0, object{}, span{}, err
	}
	if (p == takeWhole || p == takeRange) && !t.wants(r.header) {
		return 0, object{}, span{}, otherCopy(asked)
	}
	if p == takeWhole {
		o, err := a.whole(askFirst)
		return openStream, o, span{0, o.total}, err
	}
	if a.usable && a.given.total > t.maxSize {
		return 0, object{}, span{}, tooLarge(a.given.total, t.maxSize)
	}
	if p != takeRange {
		return openAgain, object{total: a.given.total}, span{}, a.err(p)
	}
	o := object{total: a.given.total, validator: validatorOf(r.header)}
	if o.validator.strong() || t.digest {
		return openRanges, o, a.given.span, nil
	}
	// Nothing would tell whether ranges belong together (RFC 9110 §15.3.7.3): the
	// object has to come in one response, as this one may be.
	if a.given.span == (span{0, o.total}) {
		return openStream, o, a.given.span, nil
	}
	return openAgain, object{total: o.total}, span{}, nil
}

// judgeWhole decides about the answer to a request for the whole object. said is its
// size by an answer to a range before, or not positive: a cache that keeps parts
// under the object's name sends one as the whole. Without a digest it has to be right.
func judgeWhole(r reply, said int64, t terms) (object, error) {
	a, p, err := prove(r, askWhole, span{0, math.MaxInt64}, object{}, t)
	if err == nil {
		err = a.err(p)
	}
	if err != nil {
		return object{}, err
	}
	o, err := a.whole(askWhole)
	switch {
	case err != nil || t.digest || said <= 0 || o.total == said:
	case o.total < 0:
		o.total = said
	default:
		err = fail(SourceChanged, "the server says that the object has %d bytes, and then answers a request for all of it with %d: have it serve the object as a whole, or give the object's digest", said, o.total)
	}
	return o, err
}

// judgeLater decides about the answer to a later request for the range asked.
// The span is what the body holds: it begins where asked, and may end earlier,
// which RFC 9110 §15.3.7 allows.
func judgeLater(r reply, asked span, o object, t terms) (span, error) {
	a, p, err := prove(r, askLater, asked, o, t)
	if err != nil {
		return span{}, err
	}
	// Only a 206 says of itself which object its range is of.
	if a.usable && r.status == http.StatusPartialContent {
		if a.given.total >= 0 && a.given.total != o.total {
			return span{}, fail(SourceChanged, "the object changed while it was read: it had %d bytes and has %d", o.total, a.given.total)
		}
		if !t.digest && o.validator.contradictedBy(r.header) {
			return span{}, fail(SourceChanged, "the object changed while it was read: its validator is another")
		}
	}
	if p == takeRange && !t.wants(r.header) {
		return span{}, otherCopy(asked)
	}
	return a.given.span, a.err(p)
}

func otherCopy(asked span) error {
	return contradict("the server answers %s from another copy of the object than most of it came from", asked.header())
}
