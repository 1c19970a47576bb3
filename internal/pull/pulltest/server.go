// Package pulltest is an HTTP server with one object and every fault that a test
// wants of it. It writes its answers to the connection itself, because a proper
// HTTP library refuses to be wrong.
package pulltest

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
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
	opened  int // connections accepted so far
	peak    int // most connections open at once
	numbers int // requests received so far
	log     []Record
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

// Log returns the requests answered so far, in the order in which they came.
func (s *Server) Log() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := slices.Clone(s.log)
	slices.SortFunc(log, func(a, b Record) int { return a.Number - b.Number })
	return log
}

// BytesSent returns the body bytes of all answers.
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
		sent, err := x.write(s.ctx, conn, requests)
		s.mu.Lock()
		s.log = append(s.log, Record{
			Number: x.Number, Connection: id, Path: request.URL.Path, Header: recorded(request), Status: x.Status, Sent: sent,
		})
		s.mu.Unlock()
		if err != nil || x.Close || request.Close {
			return
		}
	}
}

// recorded is the request's header with the host, which net/http keeps apart.
func recorded(r *http.Request) http.Header {
	header := maps.Clone(r.Header)
	header.Set("Host", r.Host)
	return header
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

var errCut = errors.New("the connection is cut on purpose")

// write sends the answer and returns how many bytes of its body went out.
func (x *Exchange) write(ctx context.Context, conn net.Conn, requests io.Reader) (sent int64, err error) {
	if x.Refuse {
		return 0, errCut
	}
	if !x.wait(ctx) {
		return 0, ctx.Err()
	}
	if _, err := io.WriteString(conn, x.head()); err != nil {
		return 0, err
	}
	out := bufio.NewWriterSize(conn, 64<<10)
	sent, err = x.send(ctx, conn, out)
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	if errors.Is(err, errStop) {
		err = x.misbehave(ctx, conn, requests)
	}
	return sent, err
}

// errStop ends a body where its exchange stops it.
var errStop = errors.New("the body stops on purpose")

// send writes the body.
func (x *Exchange) send(ctx context.Context, conn net.Conn, out *bufio.Writer) (sent int64, err error) {
	body := x.body()
	buf := make([]byte, 32<<10)
	for {
		if sent%pacingStep == 0 {
			if err := x.pacing(conn); err != nil {
				return sent, err
			}
		}
		limit := x.limit(sent, int64(len(buf)))
		if limit == 0 {
			return sent, errStop
		}
		n, err := body.Read(buf[:limit])
		if n == 0 && err == io.EOF {
			return sent, x.end(out)
		}
		if err != nil && err != io.EOF {
			return sent, err
		}
		if err := x.piece(out, buf[:n]); err != nil {
			return sent, err
		}
		sent += int64(n)
		if err := x.pace(ctx, out, n); err != nil {
			return sent, err
		}
	}
}

// limit is how much may be sent at once after the first bytes of the body.
func (x *Exchange) limit(sent, most int64) int64 {
	if x.BytesPerSecond > 0 {
		most = max(1, min(most, x.BytesPerSecond/20))
	}
	for _, stop := range []int64{x.CutAfter, x.StallAfter} {
		if stop != Never {
			most = min(most, stop-sent)
		}
	}
	return most
}

// end marks the end of the body.
func (x *Exchange) end(out io.Writer) error {
	if x.Framing != Chunked {
		return nil
	}
	_, err := io.WriteString(out, "0\r\n\r\n")
	return err
}

// misbehave cuts the connection, or keeps it open and silent.
func (x *Exchange) misbehave(ctx context.Context, conn net.Conn, requests io.Reader) error {
	if x.CutAfter != Never {
		if tcp, ok := conn.(*net.TCPConn); ok && x.Reset {
			_ = tcp.SetLinger(0)
		}
		return errCut
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, _ = io.Copy(io.Discard, requests) // until the client gives up
	return errCut
}

func (x *Exchange) piece(out io.Writer, p []byte) error {
	if x.Framing == Chunked {
		if _, err := fmt.Fprintf(out, "%x\r\n", len(p)); err != nil {
			return err
		}
		p = append(slices.Clip(p), "\r\n"...)
	}
	_, err := out.Write(p)
	return err
}

// pace holds the connection at its rate.
func (x *Exchange) pace(ctx context.Context, out *bufio.Writer, n int) error {
	if x.BytesPerSecond == 0 {
		return nil
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return sleep(ctx, time.Duration(float64(n)/float64(x.BytesPerSecond)*float64(time.Second)))
}

func (x *Exchange) wait(ctx context.Context) bool {
	if x.Gate != nil {
		select {
		case <-x.Gate:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// head is the status line and the header.
func (x *Exchange) head() string {
	var text strings.Builder
	fmt.Fprintf(&text, "HTTP/1.1 %d %s\r\n", x.Status, http.StatusText(x.Status))
	switch x.Framing {
	case Sized:
		if x.Header.Get("Content-Length") == "" {
			fmt.Fprintf(&text, "Content-Length: %d\r\n", x.bodySize())
		}
	case Chunked:
		text.WriteString("Transfer-Encoding: chunked\r\n")
	case UntilClose:
		x.Close = true
	}
	if x.Close {
		text.WriteString("Connection: close\r\n")
	}
	_ = x.Header.Write(&text)
	text.WriteString("\r\n")
	return text.String()
}
