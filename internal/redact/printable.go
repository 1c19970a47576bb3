package redact

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable returns text with everything escaped that does not print as itself:
// C0 and C1 control characters, which a terminal obeys (ECMA-48), line and
// paragraph separators, bidirectional formatting characters, which reorder what a
// person reads (Unicode UAX #9), other invisible formatting characters, and bytes
// that are no UTF-8. Escapes are Go's: \n, \x1b, \u202e. Text that has none of
// these is returned as it is, so that escaping twice changes nothing.
func Printable(text string) string {
	at := strings.IndexFunc(text, hidden)
	if at < 0 {
		return text
	}
	var out strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if hidden(r) {
			out.WriteString(escaped(r, text[:size]))
		} else {
			out.WriteString(text[:size])
		}
		text = text[size:]
	}
	return out.String()
}

// hidden tells whether a character does not print as itself. The replacement
// character counts as hidden: it stands for a byte that is no UTF-8, or for one that was
// lost before.
func hidden(r rune) bool { return r == utf8.RuneError || !unicode.IsGraphic(r) }

func escaped(r rune, raw string) string {
	switch {
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	case r == utf8.RuneError && len(raw) == 1, r < 0x80:
		return fmt.Sprintf(`\x%02x`, raw[0])
	case r > 0xffff:
		return fmt.Sprintf(`\U%08x`, r)
	default:
		return fmt.Sprintf(`\u%04x`, r)
	}
}
