package pull

import (
	"errors"
	"net/http"

	address "github.com/cloudimage-dev/cloudimage-operator/internal/source"
)

// target is an address and the header fields that may be sent to it.
type target struct {
	at         address.Address
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
	next, err := t.at.Follow(location)
	if err != nil {
		kind := InvalidSource
		if errors.Is(err, address.ErrDowngrade) {
			kind = PolicyDenied
		}
		return t, failWith(kind, err, "the server redirects from %s", t.at)
	}
	header := t.header
	if next.Origin() != t.at.Origin() {
		header = nil
	}
	return target{at: next, header: header, redirected: true}, nil
}
