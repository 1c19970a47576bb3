package pull

import (
	"context"
	"fmt"
	"net/http"
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
	mu        sync.Mutex
	at        target
	times     int           // that the original URL was resolved
	proven    bool          // at did not refuse the last request
	resolving chan struct{} // holds one: whoever resolves the original URL again
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
		s.settle(at, r)
	}
	return r, err
}

func (s *source) original() target { return target{at: s.job.at, header: s.job.Header} }

// settle has later requests go to a target, which answered with r.
func (s *source) settle(at target, r *response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.proven = at, !refusedURL(r.reply.status)
	s.times++
}

// current returns where to ask now, and how many resolutions led there.
func (s *source) current() (at target, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at, s.times
}

// origin returns the origin that serves the object; before the first answer, that of its URL.
func (s *source) origin() string {
	at, _ := s.current()
	if at.at.IsZero() {
		at = s.original()
	}
	return at.at.Origin()
}

// again asks for a later span of the same representation. A URL that a redirect
// led to may be signed for a time; when it is refused the original may lead on.
func (s *source) again(ctx context.Context, asked span, v validator) (*response, error) {
	for {
		at, times := s.current()
		r, _, err := s.get(ctx, at, &asked, v)
		if err != nil || !at.redirected || !refusedURL(r.reply.status) {
			return r, err
		}
		if r, err = s.resolve(ctx, r, times, asked, v); r != nil || err != nil {
			return r, err
		}
	}
}

// refusedURL reports whether a status may mean that a URL is no longer good:
// stores of objects use all of these for signatures that have expired.
func refusedURL(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	default:
		return false
	}
}

// resolve asks the original URL again after r refused what the given resolution
// led to. One caller does; the others wait and get no response, but a new target
// to ask. A target that refused its last request is not resolved again: r is
// the answer then.
func (s *source) resolve(ctx context.Context, r *response, times int, asked span, v validator) (*response, error) {
	select {
	case s.resolving <- struct{}{}:
		defer func() { <-s.resolving }()
	case <-ctx.Done():
		err := r.explain(ctx.Err()) // it may be this connection that is ended, not the pull
		r.close()
		return nil, err
	}
	s.mu.Lock()
	now, proven := s.times, s.proven
	s.mu.Unlock()
	if now == times && !proven {
		return r, nil
	}
	r.drain()
	if now != times {
		return nil, nil
	}
	again, at, err := s.get(ctx, s.original(), &asked, v)
	if err == nil {
		s.settle(at, again)
	}
	return again, err
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
		Method: http.MethodGet, URL: at.at.URL(), Host: host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	return req.WithContext(ctx)
}
