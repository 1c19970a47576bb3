// Package serve listens for scrapes of metrics and for probes, and decides who may ask. Whoever reaches a port can open
// connections; what they may take of the process's memory is bounded, and they keep nobody out who has a right to an answer.
package serve

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// bounds are what the peers of one listener may take.
type bounds struct {
	// connections are open at the same time, in all and from one address.
	connections, perAddress int
	// head is what a peer may send before its request is complete, in bytes on the wire: what a TLS handshake takes included.
	head int64
	// asking is how long a handshake may last, and then a header; answering is how long an answer may take from then on.
	asking, answering time.Duration
	// idle is how long a connection that was let in waits for its next request; 0 closes it after each answer.
	idle time.Duration
}

// listen opens a TCP listener within the bounds. With a configuration it speaks TLS, which begins above them.
func listen(address string, b bounds, config *tls.Config) (net.Listener, error) {
	inner, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	bounded := &listener{Listener: inner, bounds: b}
	if config == nil {
		return bounded, nil
	}
	return tls.NewListener(bounded, config), nil
}

// newServer answers what comes in through a listener of listen. The manager starts it before its caches, on every replica, and
// ends it after all else.
func newServer(name string, l net.Listener, b bounds, handler http.Handler, logger logr.Logger) *manager.Server {
	// HTTP/2 would need bounds of its own, and one scrape a connection at a time does not need HTTP/2.
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler: finished(handler), Protocols: protocols, DisableGeneralOptionsHandler: true,
		// Above what the listener lets through, and with it net/http's half a second of waiting after it refused a header.
		MaxHeaderBytes:    int(2 * b.head),
		ReadHeaderTimeout: b.asking, ReadTimeout: b.answering, WriteTimeout: b.answering, IdleTimeout: b.idle,
		ConnContext: connContext, ConnState: connState,
		ErrorLog: log.New(quiet{logger}, "", 0),
	}
	server.SetKeepAlivesEnabled(b.idle > 0)
	return &manager.Server{Name: name, Server: server, Listener: l, ShutdownTimeout: &b.answering}
}

// finished passes complete requests on. One with a body is none that anything here answers, and net/http would wait for the body.
func finished(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			http.Error(w, "send no body", http.StatusRequestEntityTooLarge)
			controller := http.NewResponseController(w)
			_ = controller.Flush() // it may have gone
			// Also after a panic net/http reads what it can of the body.
			_ = controller.SetReadDeadline(time.Now())
			panic(http.ErrAbortHandler)
		}
		moveOn(r.Context(), asking)
		w.Header().Set("Connection", "close") // only those who are let in may stay: nobody is who asks for what is not served
		next.ServeHTTP(w, r)
	})
}

// public lets everybody in.
func public(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		letIn(w, r)
		next.ServeHTTP(w, r)
	})
}

// letIn is called before a request is answered to which its peer has a right.
func letIn(w http.ResponseWriter, r *http.Request) {
	moveOn(r.Context(), answering)
	w.Header().Del("Connection")
}

// connKey finds a request's connection in its context.
type connKey struct{}

// connContext makes the context of a connection's requests, which ends when the listener drops it.
func connContext(ctx context.Context, c net.Conn) context.Context {
	own := connOf(c)
	ctx, cancel := context.WithCancel(ctx)
	own.onDrop(cancel)
	return context.WithValue(ctx, connKey{}, own)
}

// connState hears that an answer is complete and that the connection waits for another request.
func connState(c net.Conn, state http.ConnState) {
	if state == http.StateIdle {
		connOf(c).moveOn(idle)
	}
}

// moveOn tells the listener how far the connection of a request is.
func moveOn(ctx context.Context, to stage) {
	if c, ok := ctx.Value(connKey{}).(*conn); ok {
		c.moveOn(to)
	}
}

// connOf is the connection below TLS, if there is any.
func connOf(c net.Conn) *conn {
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
	}
	own, _ := c.(*conn) // the listener makes no other
	return own
}

// quiet takes what net/http says of wrong requests, which strangers could fill a log with.
type quiet struct{ logr.Logger }

// Write implements io.Writer.
func (q quiet) Write(line []byte) (int, error) {
	q.V(1).Info("connection", "error", string(line))
	return len(line), nil
}
