// Package origin is the HTTP server that nodes download images from in tests and in the demo: it answers ranges as a good server
// does, or wrongly on request, can hold every connection to a rate, and knows afterwards which node took which bytes when.
package origin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// File is one thing to download.
type File struct {
	// Path is the file on this machine's disk.
	Path string
	// BytesPerSecond limits each connection, 0 not at all.
	BytesPerSecond int64
	// Fault makes the server answer wrongly.
	Fault Fault
}

// Server listens on a port of loopback.
type Server struct {
	// URL has neither a path nor a trailing slash.
	URL string

	http   *http.Server
	served chan error

	mu       sync.Mutex
	files    map[string]File
	requests []*Request
}

type connKey struct{}

// Start returns a server without files.
func Start() (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the origin: %w", err)
	}
	s := &Server{
		URL: "http://" + listener.Addr().String(), files: map[string]File{}, served: make(chan error, 1),
	}
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, conn)
		},
	}
	go func() { s.served <- s.http.Serve(listener) }()
	return s, nil
}

// Close cuts every connection and waits until the server has ended.
func (s *Server) Close() error {
	err := s.http.Close()
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("close the origin: %w", err)
	}
	return nil
}

// Serve puts a file under a URL path like /debian.qcow2, or changes how it is served; answers that are under way go on as they
// began.
func (s *Server) Serve(urlPath string, file File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[urlPath] = file
}

// ServeHTTP answers one request and logs it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	entry, file, ok := s.begin(r)
	counted := &countingWriter{ResponseWriter: w, server: s, entry: entry}
	defer s.end(entry)
	if !ok {
		http.NotFound(counted, r)
		return
	}
	if err := serveFile(counted, r, file); err != nil {
		http.Error(counted, err.Error(), http.StatusInternalServerError)
	}
}

// Refuse answers one request with an error's status and logs it.
func (s *Server) Refuse(w http.ResponseWriter, r *http.Request, status int) {
	entry, _, _ := s.begin(r)
	defer s.end(entry)
	http.Error(&countingWriter{ResponseWriter: w, server: s, entry: entry}, http.StatusText(status), status)
}

func serveFile(w http.ResponseWriter, r *http.Request, file File) error {
	if err := pace(r.Context(), file.BytesPerSecond); err != nil {
		return err
	}
	content, err := os.Open(file.Path)
	if err != nil {
		return fmt.Errorf("open the file: %w", err)
	}
	defer content.Close()
	info, err := content.Stat()
	if err != nil {
		return fmt.Errorf("look at the file: %w", err)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	// Strong, as an object store's is, so that ranges may be combined.
	w.Header().Set("ETag", fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()))
	if file.Fault == NoFault {
		http.ServeContent(w, r, "", info.ModTime(), content)
		return nil
	}
	file.Fault.serve(w, r, content, info.Size())
	return nil
}
