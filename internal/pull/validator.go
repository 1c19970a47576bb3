package pull

import (
	"net/http"
	"strings"
	"time"
)

// lastModifiedMargin is how much older than the answer a Last-Modified must be
// to count as strong. RFC 9110 §8.8.2.2 asks for at least one second on one
// clock, or for a difference large enough to make clock skew unlikely.
const lastModifiedMargin = time.Minute

// validator identifies one representation of the object, byte for byte. At most
// one of its fields is set; with neither, nothing does.
type validator struct {
	etag         string // a strong entity tag, with its quotes
	lastModified string // a Last-Modified that §8.8.2.2 makes strong
}

func (v validator) strong() bool { return v != validator{} }

// validatorOf takes the strong validator out of a response's header, if there is one.
func validatorOf(h http.Header) validator {
	if etag := strongETag(h); etag != "" {
		return validator{etag: etag}
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return validator{}
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || date.Sub(modified) < lastModifiedMargin {
		return validator{}
	}
	return validator{lastModified: h.Get("Last-Modified")}
}

// precondition makes a later request fail on the server when the object changed.
func (v validator) precondition(h http.Header) {
	switch {
	case v.etag != "":
		h.Set("If-Match", v.etag)
	case v.lastModified != "":
		h.Set("If-Unmodified-Since", v.lastModified)
	}
}

// contradictedBy reports whether the header of a later answer names another
// representation, or none: RFC 9110 §15.3.7 has a 206 repeat the validator that a
// 200 would carry.
func (v validator) contradictedBy(h http.Header) bool {
	var want, got string
	switch {
	case v.etag != "":
		want, got = v.etag, strings.TrimSpace(h.Get("ETag"))
	case v.lastModified != "":
		want, got = v.lastModified, h.Get("Last-Modified")
	default:
		return false
	}
	return got != want
}

// strongETag returns the strong entity tag of h with its quotes, or "" (RFC 9110
// §8.8.3). Two different tags in one header identify nothing.
func strongETag(h http.Header) string {
	values := h.Values("ETag")
	if len(values) != 1 {
		return ""
	}
	tag := strings.TrimSpace(values[0])
	if len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return ""
	}
	for i := 1; i < len(tag)-1; i++ {
		if c := tag[i]; c <= ' ' || c == '"' || c == 0x7f {
			return ""
		}
	}
	return tag
}
