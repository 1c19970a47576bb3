package redact

import (
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"plain", "the disk is full: 12 MiB are missing", "the disk is full: 12 MiB are missing"},
		{"letters of other scripts", "größe, 大きさ, Ωμέγα", "größe, 大きさ, Ωμέγα"},
		{"escape sequence", "a\x1b[2Jb", `a\x1b[2Jb`},
		{"title of the window", "\x1b]0;owned\a", `\x1b]0;owned\x07`},
		{"rows of a table", "x\nnode-9  Ready\r\tz", `x\nnode-9  Ready\r\tz`},
		{"C1", "a\u009b31mb", `a\u009b31mb`},
		{"C1 as a byte that is no UTF-8", "a\x9b31mb", `a\x9b31mb`},
		{"bidirectional override", "a\u202egpj.exe", `a\u202egpj.exe`},
		{"isolates", "\u2066a\u2069", `\u2066a\u2069`},
		{"marks", "a\u200eb\u200fc\u061c", `a\u200eb\u200fc\u061c`},
		{"line separator", "a\u2028b\u2029", `a\u2028b\u2029`},
		{"invisible", "a\u200bb\ufeffc\u00ad", `a\u200bb\ufeffc\u00ad`},
		{"tag characters", "a\U000e0041", `a\U000e0041`},
		{"replacement character", "a\ufffdb", `a\ufffdb`},
		{"escaped before", `a\x1b[2J\u202e`, `a\x1b[2J\u202e`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Printable(tt.text); got != tt.want {
				t.Errorf("Printable(%q) = %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}

// FuzzPrintable checks that nothing is left that a terminal obeys, and that escaping
// twice changes nothing.
func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b[2Jb")
	f.Add("\u202e\x9b\n")
	f.Fuzz(func(t *testing.T, text string) {
		got := Printable(text)
		for _, r := range got {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' || r == utf8.RuneError {
				t.Fatalf("Printable(%q) = %q", text, got)
			}
		}
		if again := Printable(got); again != got {
			t.Fatalf("escaped twice: %q, once: %q", again, got)
		}
	})
}
