package pull

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// source asks one URL's server for bytes, and counts what it sends.
type source struct {
	job       *job
	transport *http.Transport
	limiter   *rate.Limiter // nil: no limit

	received atomic.Int64 // body bytes
	reading  atomic.Int32 // connections that wait for the server now

	// final is where the first request ended up after redirects; later ones go
	// there, so that a redirect is paid once. Set before any worker starts.
	final target
}

// target is a URL and the header fields that may be sent to it.
type target struct {
	url        *url.URL
	header     http.Header
	redirected bool
}

func newSource(j *job) *source {
	s := &source{job: j, transport: newTransport(j)}
	if limit := j.MaxBytesPerSecond; limit > 0 {
		// A twentieth of a second's bytes at a time keeps the flow even.
		burst := int(min(max(limit/20, 4<<10), readSize))
		s.limiter = rate.NewLimiter(rate.Limit(limit), burst)
		s.limiter.AllowN(time.Now(), burst) // the bucket starts empty
	}
	return s
}

func (s *source) close() { s.transport.CloseIdleConnections() }

// first asks the original URL for the span, or for the whole object when span is
// nil, and remembers where redirects led.
func (s *source) first(ctx context.Context, asked *span) (*response, error) {
	s.final = target{url: s.job.url, header: s.job.Header}
	r, at, err := s.get(ctx, s.final, asked, validator{})
	if err == nil {
		s.final = at
	}
	return r, err
}

// again asks for a later span of the same representation.
func (s *source) again(ctx context.Context, asked span, v validator) (*response, error) {
	r, _, err := s.get(ctx, s.final, &asked, v)
	return r, err
}

// get sends a request and follows redirects by hand: Go's client would carry
// custom header fields to other hosts, and Authorization to other ports.
func (s *source) get(ctx context.Context, at target, asked *span, v validator) (*response, target, error) {
	for range maxRedirects + 1 {
		r, err := s.roundTrip(ctx, at, asked, v)
		if err != nil {
			return nil, at, err
		}
		if !isRedirect(r.reply.status) {
			return r, at, nil
		}
		location := r.reply.header.Get("Location")
		r.drain()
		if at, err = at.follow(location); err != nil {
			return nil, at, err
		}
	}
	return nil, at, fail(InvalidSource, "the server redirects more than %d times", maxRedirects)
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	default:
		return false
	}
}

// follow returns the target that a Location leads to from t. Another scheme,
// host or port gets none of the request's own header fields, for good.
func (t target) follow(location string) (target, error) {
	next, err := t.url.Parse(location)
	if err != nil || location == "" {
		return t, fail(InvalidSource, "the server redirects from %s without a usable Location", redacted(t.url))
	}
	next.User, next.Fragment, next.RawFragment = nil, "", ""
	switch {
	case next.Scheme != "http" && next.Scheme != "https" || next.Hostname() == "":
		return t, fail(InvalidSource, "the server redirects to %s: only http and https are followed", redacted(next))
	case t.url.Scheme == "https" && next.Scheme == "http":
		return t, fail(PolicyDenied, "the server redirects from https to %s: the downgrade is refused", redacted(next))
	}
	header := t.header
	if origin(next) != origin(t.url) {
		header = nil
	}
	return target{url: next, header: header, redirected: true}, nil
}

// origin is the scheme, host and port of a URL, RFC 9110 §4.3.1.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// roundTrip sends one GET and returns its response, whatever the status.
func (s *source) roundTrip(ctx context.Context, at target, asked *span, v validator) (*response, error) {
	r := newResponse(ctx, s)
	req := s.request(r.ctx, at, asked, v)
	sent := time.Now()
	r.watch()
	resp, err := s.transport.RoundTrip(req) //nolint:bodyclose // the response takes the body over, and close closes it
	r.unwatch()
	if err != nil {
		err = r.explain(err)
		r.cancel(nil)
		return nil, err
	}
	r.body = resp.Body
	r.firstByte = time.Since(sent)
	r.reply = reply{
		status: resp.StatusCode, header: resp.Header, length: resp.ContentLength,
		chunked: len(resp.TransferEncoding) > 0,
	}
	return r, nil
}

func (s *source) request(ctx context.Context, at target, asked *span, v validator) *http.Request {
	header := at.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	host := header.Get("Host")
	header.Del("Host")
	header.Set("Accept-Encoding", "identity")
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "cloudimage-operator")
	}
	if asked != nil {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", asked.start, asked.end-1))
		v.precondition(header)
	}
	req := &http.Request{
		Method: http.MethodGet, URL: at.url, Host: host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	return req.WithContext(ctx)
}

// errSilent cancels a request whose connection stayed silent too long.
var errSilent = errors.New("no byte came")

// response is the answer to one request. Reading its body is counted, limited to
// the pull's rate, and ended when the server stays silent.
type response struct {
	source *source
	ctx    context.Context //nolint:containedctx // the request's own, as http.Request holds it
	cancel context.CancelCauseFunc
	timer  *time.Timer

	reply     reply
	firstByte time.Duration // from the request to the response's head
	body      io.ReadCloser
	unread    []byte // read already, to be read again
}

func newResponse(ctx context.Context, s *source) *response {
	r := &response{source: s}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	cancel := r.cancel
	r.timer = time.AfterFunc(s.job.StallTimeout, func() { cancel(errSilent) })
	r.timer.Stop()
	return r
}

// watch starts the time within which the server has to send something.
func (r *response) watch() {
	r.source.reading.Add(1)
	r.timer.Reset(r.source.job.StallTimeout)
}

func (r *response) unwatch() {
	r.timer.Stop()
	r.source.reading.Add(-1)
}

// Read reads from the body. Its errors are io.EOF at a clean end, an *Error, or
// that of the pull's context.
func (r *response) Read(p []byte) (int, error) {
	if len(r.unread) > 0 {
		n := copy(p, r.unread)
		r.unread = r.unread[n:]
		return n, nil
	}
	limiter := r.source.limiter
	if limiter != nil && len(p) > limiter.Burst() {
		p = p[:limiter.Burst()]
	}
	r.watch()
	n, err := r.body.Read(p)
	r.unwatch()
	r.source.received.Add(int64(n))
	if limiter != nil && n > 0 {
		if err := limiter.WaitN(r.ctx, n); err != nil {
			return n, r.explain(err)
		}
	}
	if err != nil && err != io.EOF {
		err = r.explain(err)
	}
	return n, err
}

// peek reads the first n bytes, or all when there are fewer, and leaves them to
// be read.
func (r *response) peek(n int) ([]byte, error) {
	head := make([]byte, n)
	got, err := readFull(r, head)
	if err == io.EOF {
		err = nil
	}
	r.unread = head[:got]
	return r.unread, err
}

// readFull fills p as far as r goes. Unlike io.ReadFull it returns the reader's
// own error next to the bytes that came before it.
func readFull(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var got int
		got, err = r.Read(p[n:])
		n += got
	}
	if n == len(p) && err == io.EOF {
		err = nil
	}
	return n, err
}

// drain reads what little a refusal or a redirect says, so that its connection
// can be used again, and closes it.
func (r *response) drain() {
	const little = 4 << 10
	if r.reply.length <= little {
		_, _ = io.CopyN(io.Discard, r, little)
	}
	r.close()
}

// close ends the response; its connection lives on only if the body was read to
// its end.
func (r *response) close() {
	_ = r.body.Close()
	r.timer.Stop()
	r.cancel(nil)
}

// explain turns an error of the transport into one with a reason.
func (r *response) explain(err error) error {
	if denied, ok := errors.AsType[*Error](err); ok {
		return denied // by the dialer
	}
	switch {
	case errors.Is(context.Cause(r.ctx), errSilent):
		return fail(SourceStalled, "the server sent nothing for %s", r.source.job.StallTimeout)
	case r.ctx.Err() != nil:
		return r.ctx.Err()
	}
	if strings.Contains(err.Error(), "bad Content-Length") {
		return failWith(InvalidSource, err, "the server's answer cannot be read")
	}
	e := failWith(SourceUnavailable, err, "the connection to the server failed")
	if errors.Is(err, io.ErrUnexpectedEOF) {
		e = failWith(SourceUnavailable, err, "the connection ended within the body")
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		e = failWith(SourceUnavailable, err, "the server's certificate cannot be trusted: give the authority that signed it")
		e.final = true
	}
	return e
}
