package redact

import (
	"net/url"
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"nothing", "no address here: a/b?c", "no address here: a/b?c"},
		{"query", "get http://h/p?sig=SECRET: refused", "get http://h/p: refused"},
		{"userinfo", "https://user:SECRET@h:8443/p", "https://h:8443/p"},
		{"fragment", `"https://h/p#SECRET"`, `"https://h/p"`},
		{"two", "http://a/?x=SECRET led to http://b/?y=SECRET.", "http://a/ led to http://b/."},
		{"brackets", "<http://[::1]:80/p?SECRET>", "<http://[::1]:80/p>"},
		{"not parseable", "http://h/%zz?SECRET end", "<unparseable URL> end"},
		{"no scheme", "://SECRET@h", "<unparseable URL>"},
		{"behind a mirror", "https://m/https://user:SECRET@h/p?SECRET", "https://m/https://h/p"},
		{"encoded", "https://m/https%3A%2F%2Fuser:SECRET@h/p", "https://m/<redacted>"},
		{"encoded in lower case", "https://m/https%3a%2f%2fuser%3aSECRET%40h", "https://m/<redacted>"},
		{"encoded twice", "https://m/https%253A%252F%252Fuser%253ASECRET%2540h", "https://m/<redacted>"},
		{"encoded unevenly", "https://m/https:%2F/user%253ASECRET@h", "https://m/<redacted>"},
		{"only a user, encoded", "https://m/https%3A%2F%2FSECRET@h", "https://m/<redacted>"},
		{"its letters encoded", "https://m/%68ttps%3A//user:SECRET%40h", "https://m/<redacted>"},
		{"the digits of an escape encoded", "https://m/https%25%33A//user%25%33ASECRET%25%340h", "https://m/<redacted>"},
		{"a slash in the password", "https://m/https%3A%2F%2Fuser:SEC%2FRET@h", "https://m/<redacted>"},
		{"one slash", "https://m/https:/user:SECRET@h", "https://m/<redacted>"},
		{"an encoded query", "https://m/https%3A%2F%2Fh%2Fp%3Fsig=SECRET", "https://m/<redacted>"},
		{"an encoded fragment", "https://h/p%23SECRET", "https://h/<redacted>"},
		{"encoded too often", "https://m/%" + strings.Repeat("25", 20) + "3ASECRET", "https://m/<redacted>"},
		{"encoded, without a URL around it", "ask /m/https%3A%2F%2Fuser:SECRET@h: refused", "ask <redacted> refused"},
		{"in front of another", "https%3A%2F%2Fuser:SECRET@h,https://i/p", "<redacted>https://i/p"},
		{"escapes without a secret", "https://h/a%20b%2Fc%25.img", "https://h/a%20b%2Fc%25.img"},
		{"an encoded URL without a secret", "https://m/https%3A%2F%2Fh%2Fp", "https://m/https%3A%2F%2Fh%2Fp"},
		{"an @ without a colon", "https://h/a@b%20c", "https://h/a@b%20c"},
		{"percent", "100% of a 50%2F", "100% of a 50%2F"},
		{"slash in the query", "http://h/p?next=http://x/?t=SECRET", "http://h/p"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Text(tt.text); got != tt.want {
				t.Errorf("Text(%q) = %q, want %q", tt.text, got, tt.want)
			}
		})
	}
}

// FuzzText checks that a secret in userinfo, query or fragment never survives,
// whatever text stands around the URL.
func FuzzText(f *testing.F) {
	f.Add("get ", "example.org", "/disk.qcow2", ": refused")
	f.Add("\"", "[::1]:80", "/a%20b", "\"")
	f.Add("http://", "h", "/:", "://")
	f.Add("", "h%", "/%zz", "?")
	f.Add("https://mirror.example/", "example.org", "/disk.qcow2", "")
	f.Add("A://", "00", "", "0")
	const secret = "S3CR3T"
	f.Fuzz(func(t *testing.T, before, host, path, after string) {
		if strings.Contains(before+host+path+after, secret) || strings.ContainsAny(host+path, " \"<>`\x7f?#/@") {
			return
		}
		for i := range len(host + path) {
			if (host + path)[i] <= ' ' {
				return
			}
		}
		text := before + "https://user:" + secret + "@" + host + path + "?q=" + secret + "#" + secret + " " + after
		if got := Text(text); strings.Contains(got, secret) {
			t.Fatalf("Text(%q) = %q", text, got)
		}
		behind := url.PathEscape("https://user:" + secret + "@" + host + path + "?q=" + secret)
		for range min(len(after), maxDecodings+2) {
			behind = url.PathEscape(behind)
		}
		if got := Text(before + "https://mirror.example/" + behind); strings.Contains(got, secret) {
			t.Fatalf("Text of the encoded %q = %q", behind, got)
		}
	})
}
