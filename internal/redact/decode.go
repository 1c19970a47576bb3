package redact

import "strings"

// maxDecodings is how often text may have been percent-encoded and still be looked
// into. What is encoded more often is taken for a secret.
const maxDecodings = 8

// conceals tells whether a path, once it is decoded, holds what may be a secret: a
// query, a fragment, or userinfo, for which a colon somewhere before an @ counts.
func conceals(path string) bool {
	plain, whole := decode(path)
	colon := strings.IndexByte(plain, ':')
	return !whole || strings.ContainsAny(plain, "?#") || colon >= 0 && strings.LastIndexByte(plain, '@') > colon
}

// decode undoes percent-encoding until there is none, and tells whether it came that far.
func decode(text string) (plain string, whole bool) {
	for range maxDecodings {
		next := decodeOnce(text)
		if next == text {
			return text, true
		}
		text = next
	}
	return text, decodeOnce(text) == text
}

// decodeOnce decodes each valid escape, and leaves a stray % alone.
func decodeOnce(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) && isHex(text[i+1]) && isHex(text[i+2]) {
			out = append(out, unhex(text[i+1])<<4|unhex(text[i+2]))
			i += 2
			continue
		}
		out = append(out, text[i])
	}
	return string(out)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}
