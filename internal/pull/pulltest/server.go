// Package pulltest is an HTTP server with one object and every fault that a test
// wants of it. It writes its answers to the connection itself, because a proper
// HTTP library refuses to be wrong.
package pulltest

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Content is the object that a server holds. *bytes.Reader is one.
type Content interface {
	io.ReaderAt
	Size() int64
}

// DefaultETag is the entity tag of every object that no behaviour gives another.
const DefaultETag = `"v1"`

// Server serves one object at every path, by default correctly: with ranges, a
// strong entity tag and kept connections. Behaviours make it wrong.
type Server struct {
	// URL of the object.
	URL string
	// RootCAs trusts the server's certificate; nil without TLS.
	RootCAs *x509.CertPool

	content    Content
	behaviours []Behaviour
	listener   net.Listener
	ctx        context.Context //nolint:containedctx // ends with the server, and its handlers with it
	stop       context.CancelFunc
	handlers   sync.WaitGroup

	mu      sync.Mutex
	open    map[net.Conn]bool
	opened  int         // connections accepted so far
	peak    int         // most connections open at once
	numbers int         // requests received so far
	log     []*Exchange // in no order
}

// Record is one line of the access log.
type Record struct {
	Number     int // of the request, from 0
	Connection int // that it came over, from 0
	Path       string
	Header     http.Header
	Status     int
	Sent       int64 // bytes of the body
}

// New starts a server that ends with the test.
func New(tb testing.TB, content Content, behaviours ...Behaviour) *Server {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	return start(tb, listener, "http", content, behaviours)
}

// NewTLS is New with https, and a certificate that RootCAs trusts.
func NewTLS(tb testing.TB, content Content, behaviours ...Behaviour) *Server {
	tb.Helper()
	donor := httptest.NewTLSServer(nil) // for its certificate
	defer donor.Close()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	// As a server that would talk HTTP/2 if only the client agreed.
	config := &tls.Config{Certificates: donor.TLS.Certificates, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	s := start(tb, tls.NewListener(listener, config), "https", content, behaviours)
	s.RootCAs = x509.NewCertPool()
	s.RootCAs.AddCert(donor.Certificate())
	return s
}

func start(tb testing.TB, listener net.Listener, scheme string, content Content, behaviours []Behaviour) *Server {
	tb.Helper()
	s := &Server{
		URL:     scheme + "://" + listener.Addr().String() + "/image",
		content: content, behaviours: behaviours, listener: listener, open: map[net.Conn]bool{},
	}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(tb.Context())) // which ends before Cleanup
	s.handlers.Go(s.accept)
	tb.Cleanup(s.Close)
	return s
}

// Close ends the server and everything that it is doing.
func (s *Server) Close() {
	s.stop()
	_ = s.listener.Close()
	s.mu.Lock()
	for conn := range s.open {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.handlers.Wait()
}

// Log returns the requests received so far, in the order in which they came. What
// a client has read is in it, also where the answer is still being written.
func (s *Server) Log() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := make([]Record, len(s.log))
	for i, x := range s.log {
		log[i] = x.record()
	}
	slices.SortFunc(log, func(a, b Record) int { return a.Number - b.Number })
	return log
}

// BytesSent returns the body bytes of all answers so far.
func (s *Server) BytesSent() (sum int64) {
	for _, record := range s.Log() {
		sum += record.Sent
	}
	return sum
}

// PeakConnections returns the most connections that were open at once.
func (s *Server) PeakConnections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peak
}

// Connections returns how many connections were opened.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened
}

func (s *Server) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.ctx.Err() != nil {
			s.mu.Unlock()
			_ = conn.Close()
			return
		}
		s.open[conn] = true
		id := s.opened
		s.opened++
		s.peak = max(s.peak, len(s.open))
		s.mu.Unlock()
		s.handlers.Go(func() {
			s.serve(conn, id)
			_ = conn.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.open, conn)
		})
	}
}

// serve answers the requests of one connection until either side ends it.
func (s *Server) serve(conn net.Conn, id int) {
	requests := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(requests)
		if err != nil {
			return
		}
		x := s.exchange(request, id)
		s.mu.Lock()
		s.log = append(s.log, x)
		s.mu.Unlock()
		err = x.write(s.ctx, conn, requests)
		for _, end := range x.Ended {
			end()
		}
		if err != nil || x.Close || request.Close {
			return
		}
	}
}

// record is the exchange as the log has it. Its header has the host, which
// net/http keeps apart.
func (x *Exchange) record() Record {
	header := maps.Clone(x.Request.Header)
	header.Set("Host", x.Request.Host)
	return Record{
		Number: x.Number, Connection: x.Connection, Path: x.Request.URL.Path, Header: header, Status: x.Status, Sent: x.sent.Load(),
	}
}

// exchange builds the correct answer and lets the behaviours change it.
func (s *Server) exchange(request *http.Request, connection int) *Exchange {
	s.mu.Lock()
	number := s.numbers
	s.numbers++
	s.mu.Unlock()
	x := &Exchange{
		Number: number, Connection: connection, Request: request, Content: s.content,
		Header:   http.Header{"Etag": {DefaultETag}, "Accept-Ranges": {"bytes"}, "Content-Type": {"application/octet-stream"}},
		CutAfter: Never, StallAfter: Never,
	}
	x.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	x.Asked, x.HasRange = parseRange(request.Header.Get("Range"), s.content.Size())
	x.answerHonestly()
	for _, behave := range s.behaviours {
		behave(x)
	}
	return x
}

// parseRange parses `bytes=first-last` as the engine sends it.
func parseRange(value string, size int64) (Span, bool) {
	positions, ok := strings.CutPrefix(value, "bytes=")
	if !ok {
		return Span{}, false
	}
	firstText, lastText, _ := strings.Cut(positions, "-")
	first, err := strconv.ParseInt(firstText, 10, 64)
	if err != nil {
		return Span{}, false
	}
	last, err := strconv.ParseInt(lastText, 10, 64)
	if err != nil {
		last = size - 1
	}
	return Span{first, min(last+1, size)}, true
}
