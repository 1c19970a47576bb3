package source

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

var errControl = errors.New("contains a control character")

// Bytes that stand for themselves in a path (RFC 3986 §3.3) and in a query (§3.4).
// Square brackets, and in a query what browsers leave alone there, are sent raw
// by everybody, and a signature may have been made over them so.
const (
	pathBytes  = "-._~!$&'()*+,;=:@/[]"
	queryBytes = pathBytes + "?`{|}^"
)

// encode returns a URL reference without its fragment, and with path and query
// encoded where they have to be. What it returns twice is the same. Backslashes,
// which some programs read as slashes, and control characters are refused.
func encode(raw string) (string, error) {
	if strings.Contains(raw, `\`) {
		return "", errors.New(`contains a backslash: write "/", or %5C if it belongs to a name`)
	}
	if strings.ContainsFunc(raw, unicode.IsControl) {
		return "", errControl
	}
	text, _, _ := strings.Cut(raw, "#")
	text, query, hasQuery := strings.Cut(text, "?")
	at := pathStart(text)
	text = text[:at] + escape(text[at:], pathBytes)
	if hasQuery {
		text += "?" + escape(query, queryBytes)
	}
	return text, nil
}

// pathStart is where the path of a reference without query begins: after the scheme
// and the authority, as far as there are any.
func pathStart(text string) int {
	start := 0
	if slashes := strings.Index(text, "//"); slashes == 0 || slashes > 0 && isScheme(text[:slashes]) {
		start = slashes + len("//")
		if slash := strings.IndexByte(text[start:], '/'); slash >= 0 {
			return start + slash
		}
		return len(text)
	}
	return start
}

// isScheme tells whether text is a scheme and its colon (RFC 3986 §3.1).
func isScheme(text string) bool {
	name, ok := strings.CutSuffix(text, ":")
	return ok && name != "" && strings.IndexFunc(name, func(r rune) bool {
		return !isAlphanumeric(r) && r != '+' && r != '-' && r != '.'
	}) < 0
}

// escape encodes each byte that is neither a letter or digit, nor among those that
// stand for themselves, nor part of a valid escape.
func escape(text, plain string) string {
	var out strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case isAlphanumeric(rune(c)), strings.IndexByte(plain, c) >= 0, c == '%' && isEscape(text[i:]):
			out.WriteByte(c)
		default:
			fmt.Fprintf(&out, "%%%02X", c)
		}
	}
	return out.String()
}

func isEscape(text string) bool {
	return len(text) >= 3 && strings.Trim(text[1:3], "0123456789abcdefABCDEF") == ""
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}
