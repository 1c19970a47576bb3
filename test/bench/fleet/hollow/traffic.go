package hollow

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
)

// Traffic counts what the agents and the API server send each other.
type Traffic struct {
	sent, received, bodies atomic.Int64
	dialer                 net.Dialer
}

// Bytes are what went over the agents' connections, with headers and TLS, and the bodies of their writes alone, as far
// as the API server read them: it turns requests away before it does.
type Bytes struct{ Sent, Received, Bodies int64 }

// Bytes tells what was counted so far.
func (t *Traffic) Bytes() Bytes {
	return Bytes{Sent: t.sent.Load(), Received: t.received.Load(), Bodies: t.bodies.Load()}
}

func (t *Traffic) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := t.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn, traffic: t}, nil
}

type countedConn struct {
	net.Conn
	traffic *Traffic
}

// Read implements net.Conn.
func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.traffic.received.Add(int64(n))
	return n, err
}

// Write implements net.Conn.
func (c *countedConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.traffic.sent.Add(int64(n))
	return n, err
}

func (t *Traffic) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		length := max(0, request.ContentLength)
		response, err := next.RoundTrip(request)
		if err == nil && response.StatusCode != http.StatusTooManyRequests {
			t.bodies.Add(length)
		}
		return response, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }
