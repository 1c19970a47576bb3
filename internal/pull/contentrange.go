package pull

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// span is a half-open range of bytes: start is in it, end is not.
type span struct{ start, end int64 }

func (s span) len() int64 { return s.end - s.start }

// header is the span as Range and Content-Range write it: both ends included.
func (s span) header() string { return fmt.Sprintf("bytes %d-%d", s.start, s.end-1) }

// contentRange is a parsed Content-Range of a 206: the bytes the body holds and
// the size of the whole object.
type contentRange struct {
	span  span
	total int64 // -1 when the server wrote "*"
}

var (
	// errRangeSyntax: the field does not follow the grammar, or is invalid by
	// RFC 9110 §14.4 (a last position before the first, or beyond the object).
	errRangeSyntax = errors.New("not a valid Content-Range")
	// errRangeOverflow: a position or the total does not fit 63 bits.
	errRangeOverflow = errors.New("number in Content-Range is too large")
	// errRangeNegative: the total is a negative number.
	errRangeNegative = errors.New("negative size in Content-Range")
)

// parseContentRange parses the value of one Content-Range field as RFC 9110
// §14.4 defines it for a 206: `bytes first-last/complete`, where complete may be
// "*". The unsatisfied form `bytes */complete` belongs to 416 and is refused.
func parseContentRange(value string) (contentRange, error) {
	unit, rest, ok := strings.Cut(strings.Trim(value, " \t"), " ")
	if !ok || !strings.EqualFold(unit, "bytes") { // §14.1: range units are case-insensitive
		return contentRange{}, errRangeSyntax
	}
	positions, complete, ok := strings.Cut(rest, "/")
	if !ok {
		return contentRange{}, errRangeSyntax
	}
	firstText, lastText, ok := strings.Cut(positions, "-")
	if !ok {
		return contentRange{}, errRangeSyntax
	}
	first, err := parseDigits(firstText)
	if err != nil {
		return contentRange{}, err
	}
	last, err := parseDigits(lastText)
	if err != nil {
		return contentRange{}, err
	}
	total, err := parseComplete(complete)
	if err != nil {
		return contentRange{}, err
	}
	if last < first || last == math.MaxInt64 || total >= 0 && last >= total {
		return contentRange{}, errRangeSyntax
	}
	return contentRange{span: span{first, last + 1}, total: total}, nil
}

// parseComplete parses the complete length of a Content-Range; -1 for "*".
func parseComplete(text string) (int64, error) {
	if text == "*" {
		return -1, nil
	}
	if digits, negative := strings.CutPrefix(text, "-"); negative {
		if _, err := parseDigits(digits); !errors.Is(err, errRangeSyntax) {
			return 0, errRangeNegative
		}
	}
	return parseDigits(text)
}

// parseDigits parses 1*DIGIT into 63 bits, without the signs, underscores and
// spaces that strconv would accept.
func parseDigits(text string) (int64, error) {
	if text == "" {
		return 0, errRangeSyntax
	}
	var n int64
	overflow := false
	for i := range len(text) {
		c := text[i]
		if c < '0' || c > '9' {
			return 0, errRangeSyntax
		}
		digit := int64(c - '0')
		if n > (math.MaxInt64-digit)/10 {
			overflow = true
			continue
		}
		n = n*10 + digit
	}
	if overflow {
		return 0, errRangeOverflow
	}
	return n, nil
}
