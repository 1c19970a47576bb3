package redact

import (
	"net/url"
	"strings"
)

// redacted stands for what is not shown.
const redacted = "<redacted>"

// RawURL returns raw without userinfo, query and fragment, which are where
// credentials travel. What cannot be parsed is replaced as a whole.
func RawURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return "<unparseable URL>"
	}
	return URL(u)
}

// URL returns u without userinfo, query and fragment, also of a URL that its
// path holds, as behind a mirror: https://mirror.example/https://user:password@host/.
// A path that holds such a thing in percent-encoding, once or several times, is
// replaced as a whole.
func URL(u *url.URL) string {
	front := (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
	path, rooted := strings.CutPrefix((&url.URL{Path: u.Path, RawPath: u.RawPath}).EscapedPath(), "/")
	if rooted {
		front += "/"
	}
	if path = Text(path); conceals(path) {
		path = redacted
	}
	return front + path
}

// Text redacts every URL that occurs in text, also a percent-encoded one. Causes that
// come from other packages (a proxy's address in a dial error, a quoted Location) may
// print one.
func Text(text string) string {
	if !strings.Contains(text, "://") && !strings.Contains(text, "%") {
		return text
	}
	var out strings.Builder
	for text != "" {
		end := 0
		for end < len(text) && !endsURL(text[end]) {
			end++
		}
		out.WriteString(redactWord(text[:end]))
		for text = text[end:]; text != "" && endsURL(text[0]); text = text[1:] {
			out.WriteByte(text[0])
		}
	}
	return out.String()
}

// redactWord redacts what may be a URL with something in front of it.
func redactWord(word string) string {
	start := strings.Index(word, "://")
	if start < 0 {
		if plain, whole := decode(word); conceals(word) && (strings.Contains(plain, "://") || !whole) {
			return redacted
		}
		return word
	}
	for start > 0 && isSchemeByte(word[start-1]) {
		start--
	}
	return redactWord(word[:start]) + redactToken(word[start:])
}

// redactToken redacts one URL cut out of a text, keeping the punctuation that
// follows it.
func redactToken(token string) string {
	bare := strings.TrimRight(token, ":,.;)")
	return RawURL(bare) + token[len(bare):]
}

func isSchemeByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'
}

// endsURL reports whether c cannot be part of a URL in running text.
func endsURL(c byte) bool {
	return c <= ' ' || c == '"' || c == '<' || c == '>' || c == '`' || c == 0x7f
}
