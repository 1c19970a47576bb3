package source

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

// Proxy chooses the proxy of a request; nil, or a nil URL, is none.
type Proxy func(*http.Request) (*url.URL, error)

// ProxyFromEnvironment reads HTTP_PROXY, HTTPS_PROXY and NO_PROXY, or their
// lower-case forms, as http.ProxyFromEnvironment does. Where that would go around a
// proxy whose address it cannot read, this fails: who names a proxy may rely on it
// to refuse addresses. Its errors do not print the value, which may hold a password.
func ProxyFromEnvironment() (Proxy, error) {
	config := httpproxy.FromEnvironment()
	for _, variable := range []struct{ name, value string }{{"HTTP_PROXY", config.HTTPProxy}, {"HTTPS_PROXY", config.HTTPSProxy}} {
		if !isProxy(variable.value) {
			return nil, fmt.Errorf("the value of %s is no address of a proxy: write http://host:port, with user:password@ before the host if the proxy wants it; https, socks5 and socks5h are known too", variable.name)
		}
	}
	choose := config.ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }, nil
}

// isProxy tells whether the value of a variable leads to a proxy, or is empty.
func isProxy(value string) bool {
	if value == "" {
		return true
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value // the scheme may be left out
	}
	u, err := url.Parse(value)
	if err != nil {
		return false
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		_, err := newAddress(u)
		return err == nil
	default:
		return false
	}
}
