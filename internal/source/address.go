package source

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

// Address is the URL of an object: http or https, without userinfo and fragment. Its
// host is ASCII in lower case, its port in 1 to 65535, its path and query are encoded.
// One value is what rules match, what origins are compared by and what is dialled. The
// zero value is no address.
type Address struct {
	url  *url.URL
	host string // as Host returns it
	port string // as it was written, without zeros in front; "" is the scheme's own
}

// ErrDowngrade is returned by Follow when a redirect leads from https to http.
var ErrDowngrade = errors.New("it leads from https to http, and that is refused: the downgrade would show everything to anybody on the way")

// Parse reads the URL that a person wrote. Spaces and letters outside ASCII in path
// and query are encoded, and a % that begins no escape; valid escapes stay as they
// are, since signatures depend on them. Its errors say what is wrong, without
// anything that may be a secret.
func Parse(raw string) (Address, error) {
	text, err := encode(raw)
	if err != nil {
		return Address{}, fmt.Errorf("%s %w", redact.RawURL(raw), err)
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Host == "" {
		return Address{}, fmt.Errorf("%s is not a URL: use http://host/path or https://host/path", redact.RawURL(raw))
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return Address{}, fmt.Errorf("%s has the scheme %q: use http or https", redact.URL(u), u.Scheme)
	}
	if u.User != nil {
		return Address{}, fmt.Errorf("%s carries a user name: send credentials in an Authorization header instead", redact.URL(u))
	}
	return newAddress(u)
}

// Follow returns where a Location leads from here (RFC 9110 §10.2.2). Userinfo and
// fragment are dropped. Its errors quote nothing of the Location.
func (a Address) Follow(location string) (Address, error) {
	text, err := encode(location)
	if err != nil {
		return Address{}, fmt.Errorf("its Location %w", err)
	}
	next, err := a.url.Parse(text)
	if err != nil || text == "" {
		return Address{}, errors.New("its Location is missing or no URL")
	}
	switch {
	case next.Scheme != "http" && next.Scheme != "https":
		return Address{}, errors.New("it leads to another scheme: only http and https are followed")
	case a.url.Scheme == "https" && next.Scheme == "http":
		return Address{}, ErrDowngrade
	}
	next.User = nil
	followed, err := newAddress(next)
	if err != nil {
		return Address{}, errors.New("its Location has no host and port that can be used")
	}
	return followed, nil
}

func newAddress(u *url.URL) (Address, error) {
	a := Address{url: u}
	var err error
	if a.host, err = Host(u.Hostname()); err != nil {
		return Address{}, hostError(u.Hostname(), err)
	}
	if port := u.Port(); port != "" {
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return Address{}, fmt.Errorf("%s has the port %.20s: use 1 to 65535", redact.URL(u), port)
		}
		a.port = strconv.FormatUint(number, 10)
	}
	u.Host = bracketed(a.host)
	if a.port != "" {
		u.Host = net.JoinHostPort(a.host, a.port)
	}
	u.Fragment, u.RawFragment = "", ""
	return a, nil
}

// IsZero tells whether this is no address.
func (a Address) IsZero() bool { return a.url == nil }

// URL returns a copy of the URL.
func (a Address) URL() *url.URL {
	u := *a.url
	return &u
}

// Host returns the host in its one spelling, without port and brackets.
func (a Address) Host() string { return a.host }

// Secure tells whether the scheme is https.
func (a Address) Secure() bool { return a.url.Scheme == "https" }

// Origin is the scheme, host and port, RFC 9110 §4.3.1.
func (a Address) Origin() string {
	port := a.port
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[a.url.Scheme]
	}
	return a.url.Scheme + "://" + net.JoinHostPort(a.host, port)
}

// String is the URL without its query, which may be a secret.
func (a Address) String() string {
	if a.url == nil {
		return ""
	}
	return redact.URL(a.url)
}

func bracketed(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}
