package pull

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestAlternate(t *testing.T) {
	t.Parallel()
	parse := func(texts ...string) (ips []netip.Addr) {
		for _, text := range texts {
			ips = append(ips, netip.MustParseAddr(text))
		}
		return ips
	}
	for name, tt := range map[string]struct{ found, want []netip.Addr }{
		"none":         {nil, nil},
		"one family":   {parse("10.0.0.2", "10.0.0.1"), parse("10.0.0.2", "10.0.0.1")},
		"two families": {parse("fd00::1", "fd00::2", "fd00::3", "10.0.0.1"), parse("fd00::1", "10.0.0.1", "fd00::2", "fd00::3")},
		"IPv4 first":   {parse("10.0.0.1", "fd00::1", "10.0.0.2"), parse("10.0.0.1", "fd00::1", "10.0.0.2")},
		"mapped":       {parse("::ffff:10.0.0.1", "fd00::1"), parse("10.0.0.1", "fd00::1")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, alternate(tt.found), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// swallow listens at an address of loopback and has the kernel drop what comes: its
// queue of connections is full.
func swallow(t *testing.T, ip string, port int) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	at := unix.SockaddrInet4{Port: port, Addr: netip.MustParseAddr(ip).As4()}
	if err := errors.Join(unix.Bind(fd, &at), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	target := net.JoinHostPort(ip, strconv.Itoa(port))
	for { // until one is not answered
		conn, err := net.DialTimeout("tcp", target, 300*time.Millisecond)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

// listen answers at an address of loopback: the kernel does, for as many as its
// queue holds.
func listen(t *testing.T, ip string) (port int) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

// TestEveryAddressGetsItsChanceEarly has a name of several addresses, of which only
// the last one answers.
func TestEveryAddressGetsItsChanceEarly(t *testing.T) {
	t.Parallel()
	port := listen(t, "127.0.0.9")
	swallow(t, "127.0.0.5", port)
	swallow(t, "127.0.0.6", port)
	tests := []struct {
		name  string
		addrs []string // before the one that answers
		deny  string
		most  time.Duration
	}{
		{"alone", nil, "", time.Second},
		{"two swallow packets", []string{"127.0.0.5", "127.0.0.6"}, "", 10 * time.Second},
		{"one refuses", []string{"127.0.0.7"}, "", 10 * time.Second},
		{"one is denied", []string{"127.0.0.8"}, "127.0.0.8/32", 10 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			j := &job{Request: Request{StallTimeout: time.Minute}}
			if tt.deny != "" {
				j.Addresses.Deny = []netip.Prefix{netip.MustParsePrefix(tt.deny)}
			}
			d := newDialer(j)
			d.lookup = func(context.Context, string, string) (found []netip.Addr, err error) {
				for _, text := range append(tt.addrs, "127.0.0.9") {
					found = append(found, netip.MustParseAddr(text))
				}
				return found, nil
			}
			began := time.Now()
			conn, err := d.dial(t.Context(), "tcp", net.JoinHostPort("images.example.com", strconv.Itoa(port)))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if took := time.Since(began); took > tt.most {
				t.Errorf("it took %s", took)
			}
			if host, _, _ := net.SplitHostPort(conn.RemoteAddr().String()); host != "127.0.0.9" {
				t.Errorf("connected to %s", conn.RemoteAddr())
			}
		})
	}
}

// TestNoAddressAnswers tells of the attempt that says most.
func TestNoAddressAnswers(t *testing.T) {
	t.Parallel()
	port := listen(t, "127.0.0.9")
	denied := AddressPolicy{Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")}}
	for name, tt := range map[string]struct {
		addrs []string
		want  func(error) bool
	}{
		"denied and refused": {[]string{"127.0.0.9", "127.0.0.7"}, func(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }},
		"denied":             {[]string{"127.0.0.9"}, func(err error) bool { return reasonOf(err) == PolicyDenied }},
		"none":               {nil, func(err error) bool { return errors.Is(err, errNoAddress) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDialer(&job{Request: Request{StallTimeout: time.Minute, Addresses: denied}})
			d.lookup = func(context.Context, string, string) (found []netip.Addr, err error) {
				for _, text := range tt.addrs {
					found = append(found, netip.MustParseAddr(text))
				}
				return found, nil
			}
			if conn, err := d.dial(t.Context(), "tcp", net.JoinHostPort("images.example.com", strconv.Itoa(port))); !tt.want(err) {
				t.Errorf("%v, %v", conn, err)
			}
		})
	}
}

// TestStallTimeoutGovernsTheConnection: an address that swallows packets is waited for
// as long as a silent connection, and a TLS handshake too.
func TestStallTimeoutGovernsTheConnection(t *testing.T) {
	t.Parallel()
	port := listen(t, "127.0.0.10")
	swallow(t, "127.0.0.11", port)
	r := Request{URL: "http://" + net.JoinHostPort("127.0.0.11", strconv.Itoa(port)), StallTimeout: 500 * time.Millisecond, Patience: AskOnce}
	result, err := openStore(t).Pull(t.Context(), r, nil)
	wantReason(t, err, SourceUnavailable)
	if !strings.Contains(err.Error(), "no connection to the server was made within 500ms") || result.Retries != 0 {
		t.Errorf("%v after %d retries", err, result.Retries)
	}
	r.StallTimeout = time.Hour
	j, err := newJob(r)
	if err != nil {
		t.Fatal(err)
	}
	if d, h := newDialer(j).one.Timeout, newTransport(j).TLSHandshakeTimeout; d < time.Hour || h < time.Hour {
		t.Errorf("a connection is waited for for %s, a handshake for %s", d, h)
	}
}
