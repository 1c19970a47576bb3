// Package origin is the HTTP server of the bench: it serves one object in ranges, holds every connection to a rate of its own, and
// counts connections and the bytes that it sent.
package origin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// Options say how a server treats its clients.
type Options struct {
	// Pace tells the rates of connections; nil is no limit.
	Pace *Pace
	// TLS, when set, makes it https, and HTTP/2 is offered.
	TLS *tls.Config
}

// Server listens on a port of loopback and serves Objects.
type Server struct {
	// URL has neither a path nor a trailing slash.
	URL string
	// Port is that of URL.
	Port int

	objects  map[string]Object
	http     *http.Server
	listener *listener
	served   chan error
}

// Start serves objects, by URL path, until Close.
func Start(objects map[string]Object, options Options) (*Server, error) {
	tcp, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("start the origin: %w", err)
	}
	address, ok := tcp.Addr().(*net.TCPAddr)
	if !ok {
		return nil, errors.New("start the origin: its address is not TCP's")
	}
	s := &Server{
		URL: fmt.Sprintf("http://127.0.0.1:%d", address.Port), Port: address.Port,
		objects: objects, served: make(chan error, 1), listener: newListener(tcp, options.Pace),
	}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, TLSConfig: options.TLS, ErrorLog: silent()}
	go func() {
		if options.TLS == nil {
			s.served <- s.http.Serve(s.listener)
		} else {
			s.served <- s.http.ServeTLS(s.listener, "", "")
		}
	}()
	if options.TLS != nil {
		s.URL = fmt.Sprintf("https://127.0.0.1:%d", address.Port)
	}
	return s, nil
}

// Close cuts every connection and waits until the server has ended.
func (s *Server) Close() error {
	err := s.http.Close()
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	s.listener.cut()
	if err != nil {
		return fmt.Errorf("close the origin: %w", err)
	}
	return nil
}

// Count is what clients did since the last Reset.
type Count struct {
	Sockets int
	// Bytes left the server's kernel, headers and TLS included.
	Bytes int64
}

// Count reads the counters.
func (s *Server) Count() Count { return s.listener.count() }

// Settle waits until every connection has ended, for a few seconds at most: clients that are gone may still have some in the kernel.
func (s *Server) Settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for s.listener.open() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Reset forgets the connections that have ended.
func (s *Server) Reset() { s.listener.reset() }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	object, ok := s.objects[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	// An open file of its own: the offset of a shared one would be shared, too.
	file, err := os.Open(object.path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+object.Digest[:16]+`"`) // strong, so that ranges may be combined
	http.ServeContent(w, r, "", object.modified, file)
}
