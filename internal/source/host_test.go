package source

import (
	"strings"
	"testing"
)

// TestHost is the table of spellings: what each becomes, or that it is refused.
func TestHost(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", maxLabelLength)
	for _, tt := range []struct{ name, text, want string }{ // want "" is refused
		{"a name", "github.com", "github.com"},
		{"upper case", "GitHub.COM", "github.com"},
		{"one label", "mirror", "mirror"},
		{"underscore", "my_bucket.example", "my_bucket.example"},
		{"hyphens in the third and fourth place", "r3---sn-x.example", "r3---sn-x.example"},
		{"dot at the end", "example.com.", "example.com."},
		{"two dots at the end", "example.com..", ""},
		{"empty label", "example..com", ""},
		{"dot in front", ".example.com", ""},
		{"a dot", ".", ""},
		{"nothing", "", ""},
		{"longest label", long + ".example", long + ".example"},
		{"longer label", long + "a.example", ""},
		{"longest name", strings.Repeat("abc.", 63) + "a", strings.Repeat("abc.", 63) + "a"},
		{"longer name", strings.Repeat("abc.", 63) + "ab", ""},
		{"punctuation", "exa!mple.com", ""},
		{"space", "exa mple.com", ""},
		{"percent", "exa%6Dple.com", ""},
		{"control character", "exa\nmple.com", ""},
		{"no UTF-8", "ex\xe4mple.com", ""},

		{"other letters", "bücher.example", "xn--bcher-kva.example"},
		{"other letters in upper case", "BÜCHER.example", "xn--bcher-kva.example"},
		{"their ASCII form", "xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"their ASCII form in upper case", "XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"decomposed", "bu\u0308cher.example", "xn--bcher-kva.example"},
		{"I with a dot above, U+0130", "gİthub.com", "xn--github-qyd.com"},
		{"dotless i, U+0131", "gıthub.com", "xn--gthub-n4a.com"},
		{"long s, U+017F", "ſecure.example", "secure.example"},
		{"Kelvin, U+212A", "\u212aernel.example", "kernel.example"},
		{"sharp s", "faß.example", "xn--fa-hia.example"},
		{"Cyrillic a", "ex\u0430mple.com", "xn--exmple-4nf.com"},
		{"fullwidth letters", "ｇithub.com", "github.com"},
		{"fullwidth dot", "github．com", "github.com"},
		{"ideographic dot", "github。com", "github.com"},
		{"soft hyphen", "git\u00adhub.com", "github.com"},
		{"zero-width space", "git\u200bhub.com", "github.com"},
		{"zero-width joiner where it joins nothing", "git\u200dhub.com", ""},
		{"bidirectional override", "git\u202ehub.com", ""},
		{"a slash in disguise, U+2044", "github.com\u2044x", "github.xn--comx-2g7a"},
		{"a character that becomes a slash, U+2100", "a\u2100b.example", ""},
		{"a question mark in disguise", "github.com\uff1fx.example", ""},
		{"an at sign in disguise", "user\uff20github.com", ""},

		{"IPv4", "192.0.2.7", "192.0.2.7"},
		{"IPv4 in fullwidth digits", "１９２.0.2.7", "192.0.2.7"},
		{"IPv4 with zeros in front", "192.0.2.007", ""},
		{"IPv4 in octal", "0300.0.2.7", ""},
		{"IPv4 in hexadecimal", "0xC0.0.2.7", ""},
		{"IPv4, the last in hexadecimal", "192.0.2.0x7", ""},
		{"IPv4 in three parts", "192.0.519", ""},
		{"IPv4 as one number", "3221225991", ""},
		{"IPv4 with a dot at the end", "192.0.2.7.", ""},
		{"a number beyond IPv4", "192.0.2.256", ""},
		{"a name that ends in a number", "example.1", ""},
		{"a name that begins with a number", "1.example", "1.example"},
		{"IPv6", "[2001:db8::7]", "2001:db8::7"},
		{"IPv6 without brackets", "2001:db8::7", "2001:db8::7"},
		{"IPv6 in full", "[2001:0DB8:0:0:0:0:0:7]", "2001:db8::7"},
		{"IPv4-mapped", "[::ffff:192.0.2.7]", "::ffff:192.0.2.7"},
		{"IPv6 with a zone", "[fe80::1%eth0]", ""},
		{"IPv4 in brackets", "[192.0.2.7]", ""},
		{"a name in brackets", "[example.com]", ""},
		{"half a bracket", "[2001:db8::7", ""},
		{"a port", "example.com:443", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Host(tt.text)
			if err != nil {
				got = ""
			}
			if got != tt.want {
				t.Errorf("Host(%q) = %q, %v, want %q", tt.text, got, err, tt.want)
			}
			if again, err := Host(got); got != "" && (err != nil || again != got) {
				t.Errorf("Host(%q) = %q, %v: its own spelling is another", got, again, err)
			}
		})
	}
}

func TestHostPattern(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, pattern, host string
		want                bool
	}{
		{"itself", "example.com", "example.com", true},
		{"in other case", "Example.COM", "eXample.com", true},
		{"with a dot at the end", "example.com", "example.com.", false},
		{"both with a dot at the end", "example.com.", "example.com.", true},
		{"below", "*.example.com", "a.example.com", true},
		{"far below", "*.example.com", "a.b.example.com", true},
		{"not itself", "*.example.com", "example.com", false},
		{"a name that ends alike", "*.example.com", "badexample.com", false},
		{"in its ASCII form", "bücher.example", "xn--bcher-kva.example", true},
		{"below other letters", "*.bücher.example", "a.BÜCHER.example", true},
		{"I with a dot above", "github.com", "gİthub.com", false},
		{"I with a dot above in both", "gİthub.com", "xn--github-qyd.com", true},
		{"Kelvin", "kernel.example", "\u212aernel.example", true},
		{"an address", "192.0.2.7", "192.0.2.7", true},
		{"IPv6", "[2001:db8::7]", "[2001:db8:0::7]", true},
		{"IPv6 without brackets", "2001:db8::7", "[2001:db8::7]", true},
		{"IPv4-mapped is another", "192.0.2.7", "[::ffff:192.0.2.7]", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := ParseHostPattern(tt.pattern)
			if err != nil {
				t.Fatal(err)
			}
			a, err := Parse("https://" + tt.host + "/x")
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Matches(a); got != tt.want {
				t.Errorf("%q matches %q: %t", tt.pattern, tt.host, got)
			}
		})
	}
	for pattern, say := range map[string]string{"https://example.com": "it is a URL: write its host alone", "example.com:443": "it has a port: write the host alone"} {
		if _, err := ParseHostPattern(pattern); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("ParseHostPattern(%q): %v, want %q", pattern, err, say)
		}
	}
	for _, pattern := range []string{"", "*", "*.", "*.*.com", "a.*.com", "*.192.0.2.7", "*.[::1]", "*.::1", "example.com:443", "https://example.com", "a b"} {
		if p, err := ParseHostPattern(pattern); err == nil {
			t.Errorf("ParseHostPattern(%q) = %+v", pattern, p)
		}
	}
}
