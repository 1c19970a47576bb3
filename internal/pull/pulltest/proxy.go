package pulltest

import (
	"bufio"
	"context"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Proxy is a proxy that tunnels (CONNECT, RFC 9110 §9.3.6), or answers what a test
// wants instead.
type Proxy struct {
	// URL of the proxy.
	URL *url.URL

	routes   map[string]string // where the tunnel to a host and port leads
	refuse   func(*http.Request) string
	listener net.Listener
	dialer   net.Dialer
	ctx      context.Context //nolint:containedctx // ends with the proxy, and its tunnels with it
	handlers sync.WaitGroup

	mu    sync.Mutex
	asked []ProxyRequest
}

// ProxyRequest is a line of a proxy's log.
type ProxyRequest struct {
	// Method and Target of the request: CONNECT and a host with its port, or GET and a URL.
	Method, Target string
	// User is the "name:password" that the client showed; "" is none.
	User string
}

// NewProxy starts a proxy that ends with the test. It tunnels to the routes of host
// and port, and to no others. refuse may answer a request itself, with all of a
// response; "" lets it pass, and nil all of them.
func NewProxy(tb testing.TB, routes map[string]string, refuse func(*http.Request) string) *Proxy {
	tb.Helper()
	listener, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listen: %v", err)
	}
	p := &Proxy{URL: &url.URL{Scheme: "http", Host: listener.Addr().String()}, routes: routes, refuse: refuse, listener: listener}
	ctx, stop := context.WithCancel(context.WithoutCancel(tb.Context()))
	p.ctx = ctx
	p.handlers.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.handlers.Go(func() { p.serve(conn) })
		}
	})
	tb.Cleanup(func() {
		stop()
		_ = listener.Close()
		p.handlers.Wait()
	})
	return p
}

// Choose is the proxy of every request.
func (p *Proxy) Choose(*http.Request) (*url.URL, error) { return p.URL, nil }

// Asked returns the requests so far.
func (p *Proxy) Asked() []ProxyRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

func (p *Proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	defer context.AfterFunc(p.ctx, func() { _ = client.Close() })()
	reader := bufio.NewReader(client)
	request, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	user, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(request.Header.Get("Proxy-Authorization"), "Basic "))
	p.mu.Lock()
	p.asked = append(p.asked, ProxyRequest{Method: request.Method, Target: request.RequestURI, User: string(user)})
	p.mu.Unlock()
	if p.refuse != nil {
		if answer := p.refuse(request); answer != "" {
			_, _ = io.WriteString(client, answer)
			return
		}
	}
	server, err := p.dialer.DialContext(p.ctx, "tcp", p.routes[request.Host])
	if err != nil {
		_, _ = io.WriteString(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer func() { _ = server.Close() }()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	p.handlers.Go(func() {
		_, _ = io.Copy(server, reader)
		_ = server.Close()
	})
	_, _ = io.Copy(client, server)
}
