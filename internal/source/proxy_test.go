package source

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestProxyFromEnvironment(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		want        string // of an https request; "-" is that the value is refused
	}{
		{"none", "", ""},
		{"a URL", "http://proxy.example:3128", "http://proxy.example:3128"},
		{"no scheme", "proxy.example:3128", "http://proxy.example:3128"},
		{"no port", "proxy.example", "http://proxy.example"},
		{"a password", "http://user:p%40ss@proxy.example:3128", "http://user:p%40ss@proxy.example:3128"},
		{"over TLS", "https://proxy.example:3128", "https://proxy.example:3128"},
		{"SOCKS", "socks5://proxy.example:1080", "socks5://proxy.example:1080"},
		{"a password with a stray %", "http://user:SECRET%@proxy.example:3128", "-"},
		{"a password with a slash", "http://user:SEC/RET@proxy.example:3128", "-"},
		{"a port beyond 65535", "http://proxy.example:99999", "-"},
		{"a port of letters", "http://proxy.example:port", "-"},
		{"no host", "http://", "-"},
		{"another scheme", "ftp://proxy.example:21", "-"},
		{"a scheme of SOCKS that is not known", "socks4://proxy.example:1080", "-"},
		{"a space", "http://proxy .example:3128", "-"},
		{"a newline", "http://proxy.example:3128\n", "-"},
	} {
		for _, variable := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY"} {
			t.Run(tt.name+"/"+variable, func(t *testing.T) {
				for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"} {
					t.Setenv(name, "")
				}
				t.Setenv(variable, tt.value)
				choose, err := ProxyFromEnvironment()
				if (err != nil) != (tt.want == "-") {
					t.Fatalf("error %v", err)
				}
				if err != nil {
					if text := err.Error(); strings.Contains(text, "SEC") || !strings.Contains(text, strings.ToUpper(variable)) {
						t.Errorf("error %q", text)
					}
					return
				}
				scheme := strings.ToLower(strings.TrimSuffix(strings.ToUpper(variable), "_PROXY"))
				got, err := choose(&http.Request{URL: &url.URL{Scheme: scheme, Host: "images.example"}})
				if err != nil {
					t.Fatal(err)
				}
				if text := ""; got != nil && got.String() != tt.want || got == nil && text != tt.want {
					t.Errorf("proxy %v, want %q", got, tt.want)
				}
			})
		}
	}
}
