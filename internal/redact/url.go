package redact

import (
	"net/url"
	"strings"
)

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
func URL(u *url.URL) string {
	bare := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	scheme, rest, found := strings.Cut(bare.String(), "://")
	if !found {
		return scheme
	}
	return scheme + "://" + Text(rest)
}

// Text redacts every URL that occurs in text. Causes that come from other
// packages (a proxy's address in a dial error, a quoted Location) may print one.
func Text(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	var out strings.Builder
	for {
		at := strings.Index(text, "://")
		if at < 0 {
			out.WriteString(text)
			return out.String()
		}
		start := at
		for start > 0 && isSchemeByte(text[start-1]) {
			start--
		}
		end := at + len("://")
		for end < len(text) && !endsURL(text[end]) {
			end++
		}
		out.WriteString(text[:start])
		out.WriteString(redactToken(text[start:end]))
		text = text[end:]
	}
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
