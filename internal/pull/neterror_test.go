package pull

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// word is what a server says in these tests, with what a terminal would obey.
const word = "W0RD\x1b[2J"

// TestNothingThatAServerSaysIsRepeated has whatever answers on a port, an SSH daemon
// perhaps, say a word that no error may carry on.
func TestNothingThatAServerSaysIsRepeated(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, tt := range []struct {
		name, answer string
		want         Reason
		say          string
	}{
		{"a banner", "SSH-2.0-" + word + "\r\n", SourceUnavailable, "does not answer in HTTP"},
		{"a version", "HTTP/" + word + " 200 OK\r\n\r\n", SourceUnavailable, "HTTP"},
		{"a status", "HTTP/1.1 " + word + "\r\n\r\n", SourceUnavailable, "status"},
		{"a reason phrase", "HTTP/1.1 404 " + word + "\r\n\r\n", NotFound, "404 (Not Found)"},
		{"an unknown status", "HTTP/1.1 299 " + word + "\r\n\r\n", InvalidSource, "299"},
		{"a header line", ok + word + "\r\n\r\n", SourceUnavailable, "header that is no HTTP"},
		{"a header's name", ok + word + ": x\r\n\r\n", SourceUnavailable, "header that is no HTTP"},
		{"a header's value", ok + "X: W0RD\x00\r\n\r\n", SourceUnavailable, ""},
		{"a long header", ok + "X: " + strings.Repeat("W0RD", 20<<10) + "\r\n\r\n", SourceUnavailable, "64 KiB"},
		{"a Content-Length", ok + "Content-Length: W0RD\r\n\r\n", InvalidSource, "Content-Length"},
		{"two Content-Lengths", ok + "Content-Length: 1\r\nContent-Length: W0RD\r\n\r\n", SourceUnavailable, ""},
		{"a Transfer-Encoding", ok + "Transfer-Encoding: W0RD\r\n\r\n", SourceUnavailable, "Transfer-Encoding"},
		{"a Content-Encoding", ok + "Content-Length: 5\r\nContent-Encoding: W0RD\r\n\r\nhello", UnsupportedContent, "Content-Encoding"},
		{"a chunk", ok + "Transfer-Encoding: chunked\r\n\r\nW0RD\r\n", SourceUnavailable, "body"},
		{"a Content-Range", "HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/-7777\r\nContent-Length: 5\r\n\r\nhello", InvalidSource, "negative"},
		{"a huge Content-Range", "HTTP/1.1 206 P\r\nContent-Range: bytes 0-4/77779999999999999999\r\nContent-Length: 5\r\n\r\nhello", TooLarge, "63 bits"},
		{"a Location", "HTTP/1.1 302 F\r\nLocation: ftp://W0RD/W0RD\r\n\r\n", InvalidSource, "only http and https"},
		{"a Location that is no URL", "HTTP/1.1 302 F\r\nLocation: http://[W0RD\r\n\r\n", InvalidSource, "Location"},
		{"a Location's host", "HTTP/1.1 302 F\r\nLocation: http://W0RD!/\r\n\r\n", InvalidSource, "Location"},
		{"a Location's port", "HTTP/1.1 302 F\r\nLocation: http://x:77777/\r\n\r\n", InvalidSource, "Location"},
		{"nothing", "", SourceUnavailable, "ended before it answered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := openStore(t).Pull(t.Context(), Request{URL: "http://" + banner(t, tt.answer) + "/x"}, nil)
			wantReason(t, err, tt.want)
			text := err.Error()
			if !strings.Contains(text, tt.say) || strings.Contains(strings.ToUpper(text), "W0RD") || strings.Contains(text, "7777") || strings.Contains(text, "\x1b") {
				t.Errorf("error %q, want it to say %q and no word of the server", text, tt.say)
			}
		})
	}
}

// banner starts what answers every connection with the same bytes, after a request.
func banner(t *testing.T, answer string) (address string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, answer)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return listener.Addr().String()
}

// TestTLSFailuresSayWhatMendsThem: each kind has advice of its own, is asked for once,
// and repeats no name of the certificate.
func TestTLSFailuresSayWhatMendsThem(t *testing.T) {
	t.Parallel()
	loopback := []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, tt := range []struct {
		name      string
		change    func(*x509.Certificate)
		server    func(*tls.Config)
		distrust  bool
		byName    bool
		say       string
		untrusted bool
	}{
		{name: "as it should be", change: func(c *x509.Certificate) { c.IPAddresses = loopback }},
		{name: "an unknown authority", change: func(c *x509.Certificate) { c.IPAddresses = loopback }, distrust: true, say: "authority that is not trusted", untrusted: true},
		{name: "another name", change: func(c *x509.Certificate) { c.DNSNames = []string{word + ".example", "w0rd.example"} }, byName: true, say: "not for the name localhost"},
		{name: "another address", change: func(c *x509.Certificate) { c.DNSNames = []string{"w0rd.example"} }, say: "not for the address 127.0.0.1"},
		{name: "only a Common Name", change: func(c *x509.Certificate) { c.Subject.CommonName = "localhost" }, byName: true, say: "subjectAltName"},
		{name: "expired", change: func(c *x509.Certificate) {
			c.IPAddresses, c.NotBefore, c.NotAfter = loopback, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		}, say: "set its clock, or renew"},
		{name: "not valid yet", change: func(c *x509.Certificate) {
			c.IPAddresses, c.NotBefore, c.NotAfter = loopback, time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
		}, say: "set its clock, or renew"},
		{name: "not for servers", change: func(c *x509.Certificate) {
			c.IPAddresses, c.ExtKeyUsage = loopback, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}, say: "server authentication"},
		{name: "old TLS", change: func(c *x509.Certificate) { c.IPAddresses = loopback }, server: func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}, say: "1.2"},
		{name: "a certificate of the client", change: func(c *x509.Certificate) { c.IPAddresses = loopback }, server: func(c *tls.Config) {
			c.ClientAuth = tls.RequireAnyClientCert
		}, say: "certificate of the client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pair, roots := certificate(t, tt.change)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = w.Write(make([]byte, 512))
			}))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
			if tt.server != nil {
				tt.server(server.TLS)
			}
			server.Config.ErrorLog = quiet()
			server.StartTLS()
			t.Cleanup(server.Close)
			r := Request{URL: server.URL, RootCAs: roots}
			if tt.byName {
				r.URL = strings.Replace(r.URL, "127.0.0.1", "localhost", 1)
			}
			if tt.distrust {
				r.RootCAs = x509.NewCertPool()
			}
			result, err := openStore(t).Pull(t.Context(), r, nil)
			if tt.say == "" {
				wantReason(t, err, "")
				return
			}
			wantReason(t, err, SourceUnavailable)
			if text := err.Error(); !strings.Contains(text, tt.say) || strings.Contains(strings.ToLower(text), "w0rd") || strings.Contains(text, "give the authority") {
				t.Errorf("error %q, want it to say %q", text, tt.say)
			}
			if errors.Is(err, ErrUntrusted) != tt.untrusted {
				t.Errorf("untrusted is %t", !tt.untrusted)
			}
			if result.Retries > 0 {
				t.Errorf("asked again %d times", result.Retries)
			}
		})
	}
}

func TestNoTLSOnThatPort(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	result, err := openStore(t).Pull(t.Context(), Request{URL: strings.Replace(server.URL, "http:", "https:", 1)}, nil)
	wantReason(t, err, SourceUnavailable)
	if !strings.Contains(err.Error(), "does not speak TLS there") || result.Retries > 0 {
		t.Errorf("error %q after %d retries", err, result.Retries)
	}
}

// TestAProxyThatRefuses: the error names the proxy, and a password that it does not take
// is shown to it once.
func TestAProxyThatRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer, scheme string
		want                 Reason
		say                  string
		asked                int // at most
		after                time.Duration
	}{
		{"407", "HTTP/1.1 407 W0RD\r\nProxy-Authenticate: Basic realm=W0RD\r\nContent-Length: 0\r\n\r\n", "https", PolicyDenied, "the proxy refuses this client's credentials", 1, 0},
		{"407 without a tunnel", "HTTP/1.1 407 W0RD\r\nContent-Length: 0\r\n\r\n", "http", PolicyDenied, "the proxy refuses this client's credentials", 1, 0},
		{"403", "HTTP/1.1 403 W0RD\r\nContent-Length: 0\r\n\r\n", "https", PolicyDenied, "the proxy refuses a connection to images.example:443: it answers 403 (Forbidden)", 1, 0},
		{"405", "HTTP/1.1 405 W0RD\r\nContent-Length: 0\r\n\r\n", "https", PolicyDenied, "405", 1, 0},
		{"a page instead of a tunnel", "HTTP/1.1 302 W0RD\r\nLocation: http://login.example/\r\nContent-Length: 0\r\n\r\n", "https", PolicyDenied, "the proxy", 1, 0},
		{"502", "HTTP/1.1 502 W0RD\r\nContent-Length: 0\r\n\r\n", "https", SourceUnavailable, "the proxy could not connect to images.example:443: it answers 502 (Bad Gateway)", 1, 0},
		{"503", "HTTP/1.1 503 W0RD\r\nRetry-After: 90\r\nContent-Length: 0\r\n\r\n", "https", SourceUnavailable, "asks to wait 1m30s", 1, 90 * time.Second},
		{"429", "HTTP/1.1 429 W0RD\r\nContent-Length: 0\r\n\r\n", "https", SourceThrottled, "the proxy answers 429", 1, 0},
		{"no HTTP", "W0RD\r\n\r\n", "https", SourceUnavailable, "", 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			proxy := pulltest.NewProxy(t, nil, func(*http.Request) string { return tt.answer })
			proxy.URL.User = url.UserPassword("me", "SECRET")
			_, err := openStore(t).Pull(t.Context(), Request{URL: tt.scheme + "://images.example/x", Proxy: proxy.Choose, Patience: AskOnce}, nil)
			wantReason(t, err, tt.want)
			if text := err.Error(); !strings.Contains(text, tt.say) || strings.Contains(text, "SECRET") || strings.Contains(text, "W0RD") {
				t.Errorf("error %q, want it to say %q and no secret", text, tt.say)
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.After != tt.after {
				t.Errorf("error %#v asks to wait %s, want %s", err, e.After, tt.after)
			}
			asked := proxy.Asked()
			if len(asked) == 0 || len(asked) > tt.asked || asked[0].User != "me:SECRET" {
				t.Errorf("the proxy was asked %+v, want at most %d times", asked, tt.asked)
			}
		})
	}
}

// TestAProxyThatIsAway: the failure is that of the way to the proxy.
func TestAProxyThatIsAway(t *testing.T) {
	t.Parallel()
	gone := &url.URL{Scheme: "http", Host: "127.0.0.1:1", User: url.UserPassword("me", "SECRET")}
	_, err := openStore(t).Pull(t.Context(), Request{URL: "https://images.example/x", Proxy: func(*http.Request) (*url.URL, error) { return gone, nil }}, nil)
	wantReason(t, err, SourceUnavailable)
	if text := err.Error(); !strings.Contains(text, "the connection to the proxy failed") || !strings.Contains(text, "refused") || strings.Contains(text, "SECRET") {
		t.Errorf("error %q", text)
	}
}

// TestAProxyAtADeniedAddress: the message does not speak of the source's address.
func TestAProxyAtADeniedAddress(t *testing.T) {
	t.Parallel()
	proxy := pulltest.NewProxy(t, nil, nil)
	_, err := openStore(t).Pull(t.Context(), Request{
		URL: "https://images.example/x", Proxy: proxy.Choose, Addresses: AddressPolicy{Deny: DefaultDeny()},
	}, nil)
	wantReason(t, err, PolicyDenied)
	if !strings.Contains(err.Error(), "the proxy cannot be used: address 127.0.0.1 is denied") || len(proxy.Asked()) > 0 {
		t.Errorf("error %q, and the proxy was asked %+v", err, proxy.Asked())
	}
}

// TestRetryAfterIsTold: a person who waits knows for how long.
func TestRetryAfterIsTold(t *testing.T) {
	t.Parallel()
	server := pulltest.New(t, pulltest.Random(1, 1<<20), pulltest.Status(http.StatusServiceUnavailable, "Retry-After", "3600"))
	_, err := openStore(t).Pull(t.Context(), Request{URL: server.URL}, nil)
	wantReason(t, err, SourceThrottled)
	if !strings.Contains(err.Error(), "503 (Service Unavailable), and asks to wait 1h0m0s") {
		t.Errorf("error %q", err)
	}
}

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
