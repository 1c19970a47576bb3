package serve

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/go-logr/logr"
)

// guard refuses requests of those who may not read metrics.
type guard struct {
	next  http.Handler
	judge *judge
	log   logr.Logger
}

func newGuard(next http.Handler, review review, log logr.Logger) *guard {
	return &guard{next: next, judge: newJudge(review), log: log}
}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, err := http.StatusUnauthorized, error(nil)
	if token := bearerToken(r); token != "" {
		status, err = g.judge.decide(r.Context(), peerOf(r), token, strings.ToLower(r.Method), r.URL.Path)
	}
	if err != nil {
		g.log.Error(err, "a scrape was reviewed in vain", "from", r.RemoteAddr, "status", status)
	}
	if status == http.StatusOK {
		letIn(w, r)
		g.next.ServeHTTP(w, r)
		return
	}
	switch status {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer") // RFC 6750 §3
		http.Error(w, http.StatusText(status), status)
	case http.StatusServiceUnavailable:
		http.Error(w, "the API server could not be asked", status)
	case http.StatusTooManyRequests:
		http.Error(w, "too many unknown tokens were sent; try again in some seconds", status)
	default:
		http.Error(w, http.StatusText(status), status)
	}
}

// peerOf says where a request comes from.
func peerOf(r *http.Request) peer {
	from, _ := netip.ParseAddrPort(r.RemoteAddr) // net/http writes no other form
	c, ok := r.Context().Value(connKey{}).(*conn)
	return peer{address: from.Addr().Unmap(), letIn: ok && c.letIn.Load()}
}

// bearerToken is the token of the request's Authorization header (RFC 6750 §2.1); empty if it carries none.
func bearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
