package serve

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/cloudimage-dev/cloudimage-operator/test/flood"
)

const patience = time.Minute // the machine may be slow

var attackers = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr("127.0.0.4"), netip.MustParseAddr("127.0.0.5")}

// served is a server under test.
type served struct {
	address  string
	listener *listener
}

// serveFor serves until the test ends; stop is for those that want it sooner.
func serveFor(t *testing.T, b bounds, secure bool, handler http.Handler) (s served, stop func()) {
	t.Helper()
	l, err := listen("127.0.0.1:0", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	below, ok := l.(*listener)
	if !ok {
		t.Fatalf("the listener is a %T", l)
	}
	if secure {
		config, _, err := certificates("")
		if err != nil {
			t.Fatal(err)
		}
		l = tls.NewListener(l, config)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	server := newServer("test", l, b, handler, logr.Discard())
	go func() { ended <- server.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended: %v", err)
		}
	})
	t.Cleanup(stop)
	return served{address: l.Addr().String(), listener: below}, stop
}

// open is how many connections there are.
func (s served) open() int {
	s.listener.mu.Lock()
	defer s.listener.mu.Unlock()
	return len(s.listener.open)
}

func (s served) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func get(address, token string, secure bool) (status int, body string, err error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	url := "http://" + address + "/metrics"
	if secure {
		url = "https://" + address + "/metrics"
	}
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}

func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !check(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come in %s", what, patience)
		}
	}
}

// TestFloodKeepsNobodyOut: unfinished headers from four addresses hold at most what the bounds say, a scraper that is in the
// middle of its answer gets the rest of it, and others are still answered.
func TestFloodKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bounds{connections: 24, perAddress: 8, head: 20 << 10, asking: 10 * time.Second, answering: patience, idle: patience}
			half, rest := make(chan struct{}), make(chan struct{})
			review := func(_ context.Context, token, _, _ string) (int, error) {
				if strings.HasPrefix(token, "good") {
					return http.StatusOK, nil
				}
				return http.StatusUnauthorized, nil
			}
			s, _ := serveFor(t, b, secure, newGuard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, "first half, ")
				if strings.HasSuffix(r.Header.Get("Authorization"), "slow") {
					_ = http.NewResponseController(w).Flush()
					close(half)
					<-rest
				}
				fmt.Fprint(w, "second half")
			}), review, logr.Discard()))
			type answer struct {
				status int
				body   string
				err    error
			}
			slow := make(chan answer, 1)
			go func() {
				status, body, err := get(s.address, "good-slow", secure)
				slow <- answer{status, body, err}
			}()
			<-half
			attack, err := flood.Start(t.Context(), flood.Options{
				Address: s.address, TLS: secure, Peers: attackers, Connections: 48, Bytes: 64 << 10, Head: "GET /metrics HTTP/1.1\r\nHost: a\r\nX: ",
			})
			if err != nil {
				t.Fatal(err)
			}
			defer attack.Stop()
			eventually(t, "the flood", func() bool { return attack.Opened.Load() > 100 })
			for range 5 {
				if status, body, err := get(s.address, "good", secure); status != http.StatusOK || body != "first half, second half" {
					t.Errorf("a scrape gets status %d, %q, error %v", status, body, err)
				}
			}
			if open := s.open(); open > b.connections {
				t.Errorf("%d connections are open, want at most %d", open, b.connections)
			}
			close(rest)
			if got := <-slow; got.status != http.StatusOK || got.body != "first half, second half" {
				t.Errorf("the scrape in mid-answer got status %d, %q, error %v", got.status, got.body, got.err)
			}
		})
	}
}

// TestWhatARequestMayHave sends what no scraper and no kubelet sends. Nothing of it may reach the handler or stay.
func TestWhatARequestMayHave(t *testing.T) {
	t.Parallel()
	b := bounds{connections: 8, perAddress: 8, head: 4 << 10, asking: time.Second, answering: patience}
	s, _ := serveFor(t, b, false, public(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "reached") })))
	for name, tt := range map[string]struct{ send, want string }{
		"a request":             {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200"},
		"a long header":         {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 3<<10) + "\r\n\r\n", "HTTP/1.1 200"},
		"too long a header":     {"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 5<<10) + "\r\n\r\n", ""},
		"an unfinished header":  {"GET / HTTP/1.1\r\nHost: a\r\n", ""},
		"nothing":               {"", ""},
		"a body":                {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbody", "HTTP/1.1 413"},
		"a body in chunks":      {"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 413"},
		"options of the server": {"OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", "HTTP/1.1 413"},
		"HTTP/2":                {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1"},
		"an upgrade to HTTP/2":  {"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", "HTTP/1.1 200"},
		"no HTTP":               {"\x16\x03\x01\r\n\r\n", "HTTP/1.1 400"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := s.dial(t)
			if _, err := io.WriteString(c, tt.send); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(c).ReadString('\n')
			if tt.want == "" && errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(line, tt.want) || tt.want == "" && line != "" {
				t.Errorf("answer %q, error %v; want %q", line, err, tt.want)
			}
		})
	}
	t.Cleanup(func() {
		eventually(t, "the end of all", func() bool { return s.open() == 0 })
	})
}

// TestNoBodyIsWaitedFor: a request with a body that does not come is answered, and over, at once.
func TestNoBodyIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := bounds{connections: 8, perAddress: 8, head: 4 << 10, asking: time.Hour, answering: time.Hour}
	s, _ := serveFor(t, b, false, public(answersOK()))
	for name, header := range map[string]string{
		"announced": "Content-Length: 1000", "in chunks": "Transfer-Encoding: chunked", "if it is wanted": "Content-Length: 1000\r\nExpect: 100-continue",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := s.dial(t)
			if _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n"+header+"\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 413") {
				t.Errorf("answer %q, then %v", answer, err)
			}
		})
	}
}

// TestAForgedTokenHoldsNoPlace: a connection whose token waits for a review gives way, and so do its review and its goroutine.
func TestAForgedTokenHoldsNoPlace(t *testing.T) {
	t.Parallel()
	asked, ended := make(chan struct{}, 1), make(chan error, 1)
	review := func(ctx context.Context, token, _, _ string) (int, error) {
		if token == "good" {
			return http.StatusOK, nil
		}
		asked <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return 0, ctx.Err()
	}
	b := bounds{connections: 1, perAddress: 1, head: 4 << 10, asking: patience, answering: patience}
	s, _ := serveFor(t, b, false, newGuard(answersOK(), review, logr.Discard()))
	c := s.dial(t)
	if _, err := io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer forged\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-asked
	// Once it has read a byte of another request, net/http does not see that the connection ends.
	if _, err := io.WriteString(c, "G"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the byte", func() bool {
		s.listener.mu.Lock()
		defer s.listener.mu.Unlock()
		return s.listener.open[0].left.Load() == b.head-1
	})
	if status, _, err := get(s.address, "good", false); status != http.StatusOK {
		t.Errorf("status %d, error %v", status, err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the review ended with %v, want it cancelled", err)
	}
}

// TestShutdownInAFlood: only those that are being answered are waited for.
func TestShutdownInAFlood(t *testing.T) {
	t.Parallel()
	b := bounds{connections: 16, perAddress: 16, head: 4 << 10, asking: time.Hour, answering: time.Hour, idle: time.Hour}
	in, out := make(chan struct{}), make(chan struct{})
	s, stop := serveFor(t, b, false, public(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(in)
		<-out
		fmt.Fprint(w, "all of it")
	})))
	attack, err := flood.Start(t.Context(), flood.Options{Address: s.address, Peers: attackers[:1], Connections: 8, Bytes: 1 << 10, Head: "GET "})
	if err != nil {
		t.Fatal(err)
	}
	defer attack.Stop()
	answered := make(chan string, 1)
	go func() {
		_, body, _ := get(s.address, "", false)
		answered <- body
	}()
	<-in
	eventually(t, "the flood", func() bool { return attack.Opened.Load() >= 8 })
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	eventually(t, "the end of the listener", func() bool {
		c, err := net.Dial("tcp", s.address)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(out)
	if body := <-answered; body != "all of it" {
		t.Errorf("the scrape in mid-answer got %q", body)
	}
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Error("the server waits for unfinished headers")
	}
}
