package source

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

const (
	maxNameLength  = 253 // RFC 1035 §2.3.4, without the dot at the end
	maxLabelLength = 63
)

var (
	errNoHost  = errors.New("it is empty")
	errZone    = errors.New("an address with a zone means something on one machine only: leave the zone out")
	errNumeric = errors.New("a name that ends in a number is no name: write an IPv4 address as four decimal numbers, such as 192.0.2.7")
)

// Host returns the one spelling of a host: an IP address as RFC 5952 writes it,
// without brackets, or a name of ASCII letters in lower case. Names in other letters
// are converted once, by UTS #46 as IDNA 2008 has it (RFC 5891), so that what is
// matched is what is dialled. A dot at the end stays: example.com. is never looked
// up in a search domain, and another host than example.com. What converts to no
// host is refused.
func Host(text string) (string, error) {
	inner, closed := strings.CutSuffix(text, "]")
	inner, opened := strings.CutPrefix(inner, "[")
	if opened != closed {
		return "", errors.New("its brackets do not match")
	}
	if opened || strings.Contains(text, ":") {
		return ipv6(inner)
	}
	if !utf8.ValidString(text) {
		return "", errors.New("it is no UTF-8")
	}
	name := text
	if strings.ContainsFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) {
		var err error
		if name, err = idna.Lookup.ToASCII(text); err != nil {
			return "", errors.New("it has no ASCII form (IDNA 2008)") // the cause quotes it
		}
	}
	name = strings.ToLower(name) // ASCII by now, of which this folds A to Z only
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.String(), nil
	}
	return name, checkName(name)
}

func ipv6(text string) (string, error) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil || !addr.Is6():
		return "", errors.New("it is no IPv6 address")
	case addr.Zone() != "":
		return "", errZone
	}
	return addr.String(), nil
}

// checkName refuses what no resolver could look up. Underscores are no letters of a
// host name (RFC 952), and yet in use.
func checkName(name string) error {
	bare := strings.TrimSuffix(name, ".")
	if bare == "" {
		return errNoHost
	}
	if len(bare) > maxNameLength {
		return fmt.Errorf("it has %d characters, of which %d are the most", len(bare), maxNameLength)
	}
	last := ""
	for label := range strings.SplitSeq(bare, ".") {
		switch {
		case label == "":
			return errors.New("a part between its dots is empty")
		case len(label) > maxLabelLength:
			return fmt.Errorf("a part between its dots has %d characters, of which %d are the most", len(label), maxLabelLength)
		}
		if at := strings.IndexFunc(label, func(r rune) bool { return !isNameByte(r) }); at >= 0 {
			return fmt.Errorf("it contains %q: use letters, digits, '-', '_' and '.'", label[at])
		}
		last = label
	}
	if isNumber(last) {
		return errNumeric
	}
	return nil
}

func isNameByte(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '_'
}

// isNumber tells whether some resolvers take a label for a part of an IPv4 address
// in the forms of inet_aton: decimal, octal or hexadecimal.
func isNumber(label string) bool {
	digits, isHex := strings.CutPrefix(label, "0x")
	return strings.Trim(digits, "0123456789") == "" || isHex && strings.Trim(digits, "0123456789abcdef") == ""
}

// hostError says which host is refused, and why.
func hostError(text string, err error) error {
	return fmt.Errorf("the host %s cannot be used: %w", redact.Printable(fmt.Sprintf("%.80q", text)), err)
}
