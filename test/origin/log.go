package origin

import (
	"cmp"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Request is one line of the access log.
type Request struct {
	// Node is who asked: what stands in parentheses at the end of the User-Agent, else the whole of it.
	Node  string
	Path  string
	Range string
	// Authorization is the credential that was sent, as it stands in the header; empty if there was none.
	Authorization string
	// Status is 0 until the answer began.
	Status int
	// BytesSent counts the body only, while it is being sent too.
	BytesSent int64
	Start     time.Time
	// End is zero while the answer is under way.
	End time.Time
}

// Requests returns the access log in the order of the requests; those of other paths are left out unless path is empty.
func (s *Server) Requests(path string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var requests []Request
	for _, entry := range s.requests {
		if path == "" || entry.Path == path {
			requests = append(requests, *entry)
		}
	}
	return requests
}

// BytesSent sums up the bodies of the answers to a path, or of all when it is empty.
func (s *Server) BytesSent(path string) int64 {
	var sum int64
	for _, request := range s.Requests(path) {
		sum += request.BytesSent
	}
	return sum
}

// Nodes are those that asked for a path at least once, in the order of their first requests.
func (s *Server) Nodes(path string) []string {
	var nodes []string
	for _, request := range s.Requests(path) {
		if !slices.Contains(nodes, request.Node) {
			nodes = append(nodes, request.Node)
		}
	}
	return nodes
}

// MaxConcurrentNodes is the largest number of nodes that were downloading a path at the same time. A node counts from its first
// request to the end of its last, so also between two ranges and while it was restarted: the number may be too high, never too low.
func (s *Server) MaxConcurrentNodes(path string) int {
	type span struct{ start, end time.Time }
	spans := map[string]*span{}
	now := time.Now()
	for _, request := range s.Requests(path) {
		end := request.End
		if end.IsZero() {
			end = now
		}
		if known := spans[request.Node]; known == nil {
			spans[request.Node] = &span{request.Start, end}
		} else if end.After(known.end) {
			known.end = end
		}
	}
	type step struct {
		at    time.Time
		delta int
	}
	var steps []step
	for _, span := range spans {
		steps = append(steps, step{span.start, 1}, step{span.end, -1})
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.delta, b.delta)) })
	most, current := 0, 0
	for _, step := range steps {
		current += step.delta
		most = max(most, current)
	}
	return most
}

func (s *Server) begin(r *http.Request) (*Request, File, bool) {
	entry := &Request{
		Node: nodeOf(r.UserAgent()), Path: r.URL.Path, Range: r.Header.Get("Range"),
		Authorization: r.Header.Get("Authorization"), Start: time.Now(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, entry)
	file, ok := s.files[r.URL.Path]
	return entry, file, ok
}

func (s *Server) end(entry *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry.End = time.Now()
}

// nodeOf reads the node out of cloudimage-node-agent/v1.2.3 (node-1).
func nodeOf(userAgent string) string {
	if rest, ok := strings.CutSuffix(userAgent, ")"); ok {
		if at := strings.LastIndexByte(rest, '('); at >= 0 {
			return rest[at+1:]
		}
	}
	return userAgent
}

// countingWriter counts a body while it is sent.
type countingWriter struct {
	http.ResponseWriter
	server *Server
	entry  *Request
}

// WriteHeader notes the status.
func (w *countingWriter) WriteHeader(status int) {
	w.server.mu.Lock()
	w.entry.Status = status
	w.server.mu.Unlock()
	w.ResponseWriter.WriteHeader(status)
}

func (w *countingWriter) Write(data []byte) (int, error) {
	n, err := w.ResponseWriter.Write(data)
	w.count(int64(n))
	return n, err
}

// ReadFrom keeps sendfile, which net/http uses for an io.LimitedReader of a file: on two cores, copying would be measured instead
// of the engine. It goes piece by piece so that the log is right while a body is on its way.
func (w *countingWriter) ReadFrom(source io.Reader) (int64, error) {
	const piece = 4 << 20
	limited, ok := source.(*io.LimitedReader)
	to, sendfile := w.ResponseWriter.(io.ReaderFrom)
	if !ok || !sendfile {
		return io.Copy(struct{ io.Writer }{w}, source)
	}
	var sum int64
	for limited.N > 0 {
		part := &io.LimitedReader{R: limited.R, N: min(piece, limited.N)}
		n, err := to.ReadFrom(part)
		w.count(n)
		sum += n
		limited.N -= n
		if err != nil || n == 0 {
			return sum, err
		}
	}
	return sum, nil
}

// Unwrap lets http.ResponseController find the connection.
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *countingWriter) count(n int64) {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.entry.BytesSent += n
	if w.entry.Status == 0 {
		w.entry.Status = http.StatusOK
	}
}
