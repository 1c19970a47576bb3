package pulltest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Span is a half-open range of bytes.
type Span struct{ Start, End int64 }

// Framing is how the end of a body is marked.
type Framing int

// The framings of HTTP/1.1 (RFC 9112 §6).
const (
	Sized      Framing = iota // by Content-Length
	Chunked                   // by a last chunk
	UntilClose                // by the end of the connection
)

// Never is the value of CutAfter and StallAfter for a body that goes on.
const Never int64 = -1

// Exchange is a request and the answer that will be given to it. Behaviours
// change the answer.
type Exchange struct {
	Number     int // of the request at this server, from 0
	Connection int // that the request came over, from 0
	Request    *http.Request
	Content    Content
	Asked      Span // the bytes asked for, within the object
	HasRange   bool

	Status  int
	Header  http.Header
	Body    Span   // the part of the object that is sent
	Text    []byte // is sent instead, unless nil
	Extra   []byte // is sent after the body
	Framing Framing

	CutAfter       int64           // end the connection after so many bytes of body
	Reset          bool            // with a TCP reset
	StallAfter     int64           // fall silent after so many bytes of body
	BytesPerSecond int64           // of this answer; 0 is no limit
	Pacing         func() int64    // what the kernel lets through, in bytes per second; nil is all
	Close          bool            // close the connection after the answer
	Refuse         bool            // close it without one
	Gate           <-chan struct{} // answer only once it is closed

	sent  atomic.Int64 // bytes of the body that went out
	Ended []func()     // called once the answer is over
}

// Behaviour changes the answer to a request.
type Behaviour func(*Exchange)

func (x *Exchange) answerHonestly() {
	size := x.Content.Size()
	tag := x.Header.Get("ETag")
	switch match := x.Request.Header.Get("If-Match"); {
	case match != "" && match != tag:
		x.Refusal(http.StatusPreconditionFailed)
	case x.HasRange && x.Asked.Start >= size:
		x.Refusal(http.StatusRequestedRangeNotSatisfiable)
		x.Header.Set("Content-Range", fmt.Sprintf("bytes */%d", size))
	case x.HasRange:
		x.Status, x.Body = http.StatusPartialContent, x.Asked
		x.SetContentRange(x.Asked, size)
	default:
		x.Whole()
	}
}

// Whole makes the answer a 200 with the whole object.
func (x *Exchange) Whole() {
	x.Status, x.Body, x.Text = http.StatusOK, Span{0, x.Content.Size()}, nil
	x.Header.Del("Content-Range")
}

// Refusal makes the answer a status without the object.
func (x *Exchange) Refusal(status int) {
	x.Status, x.Text, x.Body = status, []byte(http.StatusText(status)+"\n"), Span{}
	x.Header.Del("Content-Range")
	x.Header.Del("ETag")
}

// SetContentRange writes a Content-Range, right or wrong.
func (x *Exchange) SetContentRange(s Span, total int64) {
	x.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", s.Start, s.End-1, total))
}

func (x *Exchange) bodySize() int64 {
	size := x.Body.End - x.Body.Start
	if x.Text != nil {
		size = int64(len(x.Text))
	}
	return size + int64(len(x.Extra))
}

func (x *Exchange) body() io.Reader {
	var body io.Reader = io.NewSectionReader(x.Content, x.Body.Start, x.Body.End-x.Body.Start)
	if x.Text != nil {
		body = bytes.NewReader(x.Text)
	}
	return io.MultiReader(body, bytes.NewReader(x.Extra))
}

// When restricts behaviours to the exchanges that a condition admits.
func When(condition func(*Exchange) bool, behaviours ...Behaviour) Behaviour {
	return func(x *Exchange) {
		if !condition(x) {
			return
		}
		for _, behave := range behaviours {
			behave(x)
		}
	}
}

// OnConnection restricts behaviours to one connection, counted from 0.
func OnConnection(connection int, behaviours ...Behaviour) Behaviour {
	return When(func(x *Exchange) bool { return x.Connection == connection }, behaviours...)
}

// OnRange restricts behaviours to requests for a range.
func OnRange(behaviours ...Behaviour) Behaviour {
	return When(func(x *Exchange) bool { return x.HasRange }, behaviours...)
}

// OnNumber restricts behaviours to one request, counted from 0.
func OnNumber(number int, behaviours ...Behaviour) Behaviour {
	return When(func(x *Exchange) bool { return x.Number == number }, behaviours...)
}

// After restricts behaviours to the requests from number on.
func After(number int, behaviours ...Behaviour) Behaviour {
	return When(func(x *Exchange) bool { return x.Number >= number }, behaviours...)
}

// Later restricts behaviours to requests for ranges that do not begin the object.
func Later(behaviours ...Behaviour) Behaviour {
	return When(func(x *Exchange) bool { return x.HasRange && x.Asked.Start > 0 }, behaviours...)
}

// Status answers with a status and without the object.
func Status(status int, header ...string) Behaviour {
	return func(x *Exchange) {
		x.Refusal(status)
		Header(header...)(x)
	}
}

// Header sets fields of the answer's header: name, value, name, value.
func Header(pairs ...string) Behaviour {
	return func(x *Exchange) {
		for i := 0; i+1 < len(pairs); i += 2 {
			x.Header.Set(pairs[i], pairs[i+1])
		}
	}
}

// NoHeader removes a field of the answer's header.
func NoHeader(name string) Behaviour { return func(x *Exchange) { x.Header.Del(name) } }

// NoRanges answers every request with the whole object.
func NoRanges(x *Exchange) { x.Whole() }

// Whole206 answers every request with the whole object as 206, and says that it
// is complete.
func Whole206(x *Exchange) {
	x.Whole()
	x.Status = http.StatusPartialContent
	x.SetContentRange(x.Body, x.Content.Size())
}

// As200 sends what it would send as 206 with the status 200, as a proxy does that
// knows no other.
func As200(x *Exchange) {
	if x.Status == http.StatusPartialContent {
		x.Status = http.StatusOK
	}
}

// Plain restricts behaviours to requests without Range.
func Plain(behaviours ...Behaviour) Behaviour {
	return When(func(x *Exchange) bool { return !x.HasRange }, behaviours...)
}

// Part answers a request without Range with the first n bytes of the object, as
// 206.
func Part(n int64) Behaviour {
	return func(x *Exchange) {
		x.Status, x.Body = http.StatusPartialContent, Span{0, n}
		x.SetContentRange(x.Body, x.Content.Size())
	}
}

// Frame marks the end of the body in another way.
func Frame(framing Framing) Behaviour { return func(x *Exchange) { x.Framing = framing } }

// Shifted claims the range that was asked for, and sends bytes from elsewhere,
// saying so in Content-Range.
func Shifted(by int64) Behaviour {
	return func(x *Exchange) {
		size := x.Content.Size()
		x.Body = Span{min(x.Body.Start+by, size), min(x.Body.End+by, size)}
		x.SetContentRange(x.Body, size)
	}
}

// Total claims another size of the object in Content-Range.
func Total(total string) Behaviour {
	return func(x *Exchange) {
		positions, _, _ := strings.Cut(x.Header.Get("Content-Range"), "/")
		x.Header.Set("Content-Range", positions+"/"+total)
	}
}

// ShortBy ends the body so many bytes before the end that Content-Range claims.
func ShortBy(n int64) Behaviour {
	return func(x *Exchange) { x.Body.End -= min(n, x.Body.End-x.Body.Start) }
}

// EarlyEnd serves at most n bytes of the range, and says so.
func EarlyEnd(n int64) Behaviour {
	return func(x *Exchange) {
		x.Body.End = min(x.Body.End, x.Body.Start+n)
		x.SetContentRange(x.Body, x.Content.Size())
	}
}

// Longer sends more bytes after the body.
func Longer(n int) Behaviour { return func(x *Exchange) { x.Extra = make([]byte, n) } }

// ContentLength declares a length, whatever is sent.
func ContentLength(n int64) Behaviour {
	return func(x *Exchange) { x.Header.Set("Content-Length", strconv.FormatInt(n, 10)) }
}

// Cut ends the connection after n bytes of body.
func Cut(n int64) Behaviour { return func(x *Exchange) { x.CutAfter = n } }

// Reset is Cut with a TCP reset, which also discards what is still on its way.
func Reset(n int64) Behaviour { return func(x *Exchange) { x.CutAfter, x.Reset = n, true } }

// Stall falls silent after n bytes of body.
func Stall(n int64) Behaviour { return func(x *Exchange) { x.StallAfter = n } }

// Pace limits every answer to a rate in bytes per second.
func Pace(bytesPerSecond int64) Behaviour {
	return func(x *Exchange) { x.BytesPerSecond = bytesPerSecond }
}

// Hold answers only once gate is closed.
func Hold(gate <-chan struct{}) Behaviour { return func(x *Exchange) { x.Gate = gate } }

// Crowded gives behaviours to the requests that come while n others are answered.
func Crowded(n int, behaviours ...Behaviour) Behaviour {
	var mu sync.Mutex
	served := 0
	return func(x *Exchange) {
		mu.Lock()
		defer mu.Unlock()
		if served >= n {
			for _, behave := range behaviours {
				behave(x)
			}
			return
		}
		served++
		x.Ended = append(x.Ended, func() {
			mu.Lock()
			defer mu.Unlock()
			served--
		})
	}
}

// Hang closes the connection without an answer.
func Hang(x *Exchange) { x.Refuse = true }

// Page answers 200 with a text, as a login form does, whatever was asked.
func Page(contentType, text string) Behaviour {
	return func(x *Exchange) {
		x.Whole()
		x.Text = []byte(text)
		x.Header.Set("Content-Type", contentType)
		x.Header.Del("ETag")
	}
}

// Corrupt sends other bytes than the object's at one position.
func Corrupt(at int64) Behaviour {
	return func(x *Exchange) { x.Content = corrupted{x.Content, at} }
}

type corrupted struct {
	Content
	at int64
}

// ReadAt implements io.ReaderAt.
func (c corrupted) ReadAt(p []byte, offset int64) (int, error) {
	n, err := c.Content.ReadAt(p, offset)
	if i := c.at - offset; i >= 0 && i < int64(n) {
		p[i] ^= 0xff
	}
	return n, err
}

// Redirect answers with a redirect to a location, at paths other than the ones given.
func Redirect(status int, location func(*Exchange) string) Behaviour {
	return func(x *Exchange) {
		if to := location(x); to != "" {
			x.Refusal(status)
			x.Header.Set("Location", to)
		}
	}
}
