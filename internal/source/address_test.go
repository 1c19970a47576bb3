package source

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, raw, want string }{ // want "" is refused
		{"plain", "https://example.com/a.qcow2", "https://example.com/a.qcow2"},
		{"no path", "https://example.com", "https://example.com"},
		{"upper-case scheme and host", "HTTPS://Example.COM/A", "https://example.com/A"},
		{"fragment", "https://example.com/a#b?c", "https://example.com/a"},
		{"empty query", "https://example.com/a?", "https://example.com/a?"},
		{"other letters in the host", "https://bücher.example/x", "https://xn--bcher-kva.example/x"},
		{"other letters in the host, encoded", "https://b%C3%BCcher.example/x", "https://xn--bcher-kva.example/x"},
		{"an ASCII letter in the host, encoded", "https://%65xample.com/x", ""},
		{"a stray % in the host", "https://100%.example/x", ""},
		{"userinfo", "https://me@example.com/x", ""},
		{"another scheme", "ftp://example.com/x", ""},
		{"no scheme", "example.com/x", ""},
		{"no host", "https:///x", ""},
		{"only a port", "https://:443/x", ""},
		{"opaque", "https:example.com", ""},

		{"port", "https://example.com:8443/x", "https://example.com:8443/x"},
		{"the scheme's own port", "https://example.com:443/x", "https://example.com:443/x"},
		{"empty port", "https://example.com:/x", "https://example.com/x"},
		{"zeros in front of a port", "https://example.com:0443/x", "https://example.com:443/x"},
		{"port 0", "https://example.com:0/x", ""},
		{"largest port", "https://example.com:65535/x", "https://example.com:65535/x"},
		{"beyond it", "https://example.com:65536/x", ""},
		{"port 99999", "https://example.com:99999/x", ""},
		{"a port of no digits", "https://example.com:x/x", ""},
		{"IPv6", "http://[2001:DB8::7]:80/x", "http://[2001:db8::7]:80/x"},
		{"IPv6 without a port", "http://[2001:DB8::7]/x", "http://[2001:db8::7]/x"},
		{"IPv6 without brackets", "http://2001:db8::7/x", ""},
		{"IPv6 with a zone", "http://[fe80::1%25eth0]/x", ""},

		{"space", "https://h.example/a b?c d", "https://h.example/a%20b?c%20d"},
		{"other letters", "https://h.example/ä?ü=ö", "https://h.example/%C3%A4?%C3%BC=%C3%B6"},
		{"bytes that are no UTF-8", "https://h.example/\xe4?\xfc", "https://h.example/%E4?%FC"},
		{"a stray %", "https://h.example/100%?100%", "https://h.example/100%25?100%25"},
		{"half an escape", "https://h.example/%4?%zz", "https://h.example/%254?%25zz"},
		{"valid escapes", "https://h.example/a%2fb%2Fc%20d%7e?e%2f%2F", "https://h.example/a%2fb%2Fc%20d%7e?e%2f%2F"},
		{"valid escapes beside a space", "https://h.example/a%2Fb c", "https://h.example/a%2Fb%20c"},
		{"plus", "https://h.example/a+b?c+d", "https://h.example/a+b?c+d"},
		{"a signature", "https://h.example/o?X-Amz-Credential=a%2Fb&X-Amz-Signature=0a+/=&x=[1]", "https://h.example/o?X-Amz-Credential=a%2Fb&X-Amz-Signature=0a+/=&x=[1]"},
		{"what a path cannot hold", `https://h.example/"<>^{|}` + "`", "https://h.example/%22%3C%3E%5E%7B%7C%7D%60"},
		{"what a query cannot hold", `https://h.example/?"<>{|}`, "https://h.example/?%22%3C%3E{|}"},
		{"dots in a path", "https://h.example/a/../b", "https://h.example/a/../b"},
		{"another URL in the path", "https://h.example/https://i.example/a b", "https://h.example/https://i.example/a%20b"},
		{"backslash", `https://h.example/a\b`, ""},
		{"backslashes for slashes", `https:\\h.example\a`, ""},
		{"backslash in the query", `https://h.example/a?b\c`, ""},
		{"newline", "https://h.example/a\nb", ""},
		{"tab", "https://h.example/a\tb", ""},
		{"NUL in the query", "https://h.example/a?\x00", ""},
		{"DEL", "https://h.example/a\x7fb", ""},
		{"C1", "https://h.example/a\u009bb", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a, err := Parse(tt.raw)
			if (err == nil) != (tt.want != "") || err == nil && a.url.String() != tt.want {
				t.Fatalf("Parse(%q) = %v, %v, want %q", tt.raw, a.url, err, tt.want)
			}
			if err != nil {
				return
			}
			if again, err := Parse(tt.want); err != nil || again.url.String() != tt.want {
				t.Errorf("parsed again it is %v, %v", again.url, err)
			}
			if line := requestLine(t, a); strings.ContainsFunc(line, func(r rune) bool { return r <= ' ' || r >= 0x7f }) || !strings.HasSuffix(tt.want, line) && line != "/" {
				t.Errorf("%q is sent for %q", line, tt.want)
			}
		})
	}
}

// requestLine returns what net/http writes as the target of a request.
func requestLine(t *testing.T, a Address) string {
	t.Helper()
	var wire bytes.Buffer
	r := &http.Request{Method: http.MethodGet, URL: a.URL(), Header: http.Header{}}
	if err := r.Write(&wire); err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(wire.String(), "\r\n")
	return strings.TrimSuffix(strings.TrimPrefix(line, "GET "), " HTTP/1.1")
}

func TestFollow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, location, want string }{ // want "" is refused
		{"absolute", "https://i.example/b", "https://i.example/b"},
		{"other case", "HTTPS://I.Example/b", "https://i.example/b"},
		{"path", "/b", "https://h.example/b"},
		{"relative", "../b", "https://h.example/b"},
		{"query", "?b", "https://h.example/d/a?b"},
		{"authority", "//i.example/b", "https://i.example/b"},
		{"userinfo and fragment", "https://u:p@i.example/b#c", "https://i.example/b"},
		{"space", "/b c?d e", "https://h.example/b%20c?d%20e"},
		{"space at the first place", "b c", "https://h.example/d/b%20c"},
		{"other letters", "/\u00e4", "https://h.example/%C3%A4"},
		{"Latin-1", "/\xe4", "https://h.example/%E4"},
		{"a stray %", "/100%", "https://h.example/100%25"},
		{"valid escapes beside a space", "/a%2Fb c%3d", "https://h.example/a%2Fb%20c%3d"},
		{"I with a dot above, encoded", "https://g%C4%B0thub.com/", "https://xn--github-qyd.com/"},
		{"Latin-1 in the host", "https://b\xfccher.example/", ""},
		{"downgrade", "http://h.example/b", ""},
		{"another scheme", "file:///etc/passwd", ""},
		{"port 0", "https://h.example:0/", ""},
		{"port 99999", "https://h.example:99999/", ""},
		{"backslashes", `\\i.example\b`, ""},
		{"backslash in the path", `/a\b`, ""},
		{"tab", "/a\tb", ""},
		{"nothing", "", ""},
		{"a fragment", "#b", ""},
		{"no host", "https:///b", ""},
		{"opaque", "https:b", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			from, err := Parse("https://h.example/d/a?secret")
			if err != nil {
				t.Fatal(err)
			}
			a, err := from.Follow(tt.location)
			if (err == nil) != (tt.want != "") || err == nil && a.url.String() != tt.want {
				t.Fatalf("Follow(%q) = %v, %v, want %q", tt.location, a.url, err, tt.want)
			}
			if errors.Is(err, ErrDowngrade) != (tt.name == "downgrade") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	for _, same := range [][]string{
		{"https://example.com/a", "https://EXAMPLE.com:443/b?c", "https://example.com:/", "https://example.com:0443"},
		{"http://example.com", "http://example.com:80/"},
		{"https://example.com.", "https://example.com.:443"},
		{"https://[2001:db8::7]/", "https://[2001:DB8:0::7]:443/"},
		{"https://xn--bcher-kva.example", "https://bücher.example", "https://B%C3%9CCHER.example"},
		{"https://xn--github-qyd.com"},
		{"https://github.com"},
		{"https://example.com:8443"},
	} {
		for i, raw := range same {
			a, err := Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			first, err := Parse(same[0])
			if err != nil {
				t.Fatal(err)
			}
			if a.Origin() != first.Origin() {
				t.Errorf("%d: %s is not the origin of %s", i, a.Origin(), first.Origin())
			}
		}
	}
}

// FuzzSpellings takes two spellings of a host: if a rule that is written as one
// lets the other pass, or both have one origin, net/http dials one host for both.
func FuzzSpellings(f *testing.F) {
	for _, pair := range [][2]string{
		{"github.com", "gİthub.com"},
		{"github.com", "g%C4%B0thub.com"},
		{"kernel.example", "\u212aernel.example"},
		{"secure.example", "ſecure.example"},
		{"fass.example", "faß.example"},
		{"xn--fa-hia.example", "FAẞ.example"},
		{"example.com", "example.com."},
		{"example.com", "example。com"},
		{"127.0.0.1", "１２７.0.0.1"},
		{"[::1]", "[0:0::1]"},
		{"*.example.com", "a.EXAMPLE.com"},
		{"a\u0307.example", "ȧ.example"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		written, err := Parse("https://" + b + "/x")
		if err != nil {
			return
		}
		dialled := dials(t, written)
		if pattern, err := ParseHostPattern(a); err == nil && pattern.Matches(written) {
			named, err := Host(strings.TrimPrefix(a, "*."))
			if err != nil || dialled != named && !strings.HasSuffix(dialled, "."+named) || dialled != named != pattern.below {
				t.Fatalf("%q lets %q pass, which dials %q", a, b, dialled)
			}
		}
		first, err := Parse("https://" + a + "/y")
		if err != nil {
			return
		}
		next, err := first.Follow("https://" + b + "/x")
		if err != nil {
			t.Fatalf("%q can be written and not be led to: %v", b, err)
		}
		if next.Origin() == first.Origin() && dials(t, first) != dialled {
			t.Fatalf("%q leads to %q as to the same origin, but they dial %q and %q", a, b, dials(t, first), dialled)
		}
	})
}

// dials returns the host that net/http connects to for an address.
func dials(t *testing.T, a Address) (host string) {
	t.Helper()
	stop := errors.New("not dialled")
	transport := &http.Transport{DialContext: func(_ context.Context, _, address string) (net.Conn, error) {
		var err error
		host, _, err = net.SplitHostPort(address)
		return nil, errors.Join(stop, err)
	}}
	request := (&http.Request{Method: http.MethodGet, URL: a.URL(), Header: http.Header{}}).WithContext(t.Context())
	resp, err := transport.RoundTrip(request)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, stop) || host == "" {
		t.Fatalf("%v was not dialled: %v", a.url, err)
	}
	return host
}
