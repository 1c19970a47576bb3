package redact

import (
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
	})
}
