package pull

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

// target is a URL and the header fields that may be sent to it.
type target struct {
	url        *url.URL
	header     http.Header
	redirected bool
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	default:
		return false
	}
}

// follow returns the target that a Location leads to from t. Another scheme,
// host or port gets none of the request's own header fields, for good.
func (t target) follow(location string) (target, error) {
	next, err := t.url.Parse(location)
	if err != nil || location == "" {
		return t, fail(InvalidSource, "the server redirects from %s without a usable Location", redact.URL(t.url))
	}
	next.User, next.Fragment, next.RawFragment = nil, "", ""
	switch {
	case next.Scheme != "http" && next.Scheme != "https" || next.Hostname() == "":
		return t, fail(InvalidSource, "the server redirects to %s: only http and https are followed", redact.URL(next))
	case t.url.Scheme == "https" && next.Scheme == "http":
		return t, fail(PolicyDenied, "the server redirects from https to %s: the downgrade is refused", redact.URL(next))
	}
	header := t.header
	if origin(next) != origin(t.url) {
		header = nil
	}
	return target{url: next, header: header, redirected: true}, nil
}

// origin is the scheme, host and port of a URL, RFC 9110 §4.3.1.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}
