package pull

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// source asks one URL's server for bytes, and counts what it sends.
type source struct {
	job       *job
	transport *http.Transport
	limiter   *rate.Limiter // of this pull; nil: no limit
	node      *turn         // of the store; nil: no limit

	received atomic.Int64 // body bytes
	reading  atomic.Int32 // connections that wait for the server now

	// at is where the last request to the original URL ended up after redirects;
	// later ones go there, so that a redirect is paid once.
	mu sync.Mutex
	resolution
	resolving chan struct{} // holds one: whoever resolves the original URL again
}

// resolution is what became of the last request to the original URL.
type resolution struct {
	at      target
	times   int  // that the original URL was asked
	found   bool // the last time led to an answer about the object
	doubted bool // at has failed since: the original is asked first

	rejection error // the last word about who asks, or nil
}

func newSource(j *job, node *rate.Limiter) *source {
	s := &source{job: j, transport: newTransport(j), resolving: make(chan struct{}, 1)}
	if node != nil {
		s.node = newTurn(node)
	}
	if limit := j.MaxBytesPerSecond; limit > 0 {
		s.limiter = newLimiter(limit)
	}
	return s
}

func (s *source) close() { s.transport.CloseIdleConnections() }

// first asks the original URL for the span, or for the whole object when span is
// nil, and remembers where redirects led.
func (s *source) first(ctx context.Context, asked *span) (*response, error) {
	r, at, err := s.get(ctx, s.original(), asked, validator{})
	if err == nil {
		s.settle(at, false)
	}
	return r, err
}

func (s *source) original() target { return target{at: s.job.at, header: s.job.Header} }

// settle has later requests go where the original URL led, unless it was the
// original itself that failed: where it led before may be all that is left.
func (s *source) settle(at target, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times++
	s.found, s.doubted = !failed, failed && at.redirected
	if !failed || at.redirected {
		s.at = at
	}
}

// current returns where to ask now.
func (s *source) current() resolution {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resolution
}

// doubt has the next request go to the original URL, if the given resolution of it
// is still the last one, and led elsewhere.
func (s *source) doubt(times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubted = s.doubted || s.times == times && s.at.redirected
}

// origin returns the origin that serves the object; before the first answer, that of its URL.
func (s *source) origin() string {
	at := s.current().at
	if at.at.IsZero() {
		at = s.original()
	}
	return at.at.Origin()
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

// roundTrip sends one GET and returns its response, whatever the status.
func (s *source) roundTrip(ctx context.Context, at target, asked *span, v validator) (*response, error) {
	r := newResponse(ctx, s)
	r.at = at
	trace := httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { r.connected.Store(true) }}
	req := s.request(httptrace.WithClientTrace(r.ctx, &trace), at, asked, v)
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
		Method: http.MethodGet, URL: at.at.URL(), Host: host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	return req.WithContext(ctx)
}
