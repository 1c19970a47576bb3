package pull

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// certificate makes a certificate that is its own authority.
func certificate(t *testing.T, change func(*x509.Certificate)) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a name of the test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestACredentialGoesToItsHostOnly has two servers whose names differ in one
// letter, which some foldings of case take for the same one, and a redirect from the
// first to the second.
func TestACredentialGoesToItsHostOnly(t *testing.T) {
	t.Parallel()
	object := pulltest.RandomBytes(1, 1<<20)
	pair, roots := certificate(t, func(c *x509.Certificate) {
		c.DNSNames = []string{"github.com", "xn--github-qyd.com"}
	})
	serve := func(answer http.HandlerFunc) *httptest.Server {
		server := httptest.NewUnstartedServer(answer)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	for _, location := range []string{"https://g%C4%B0thub.com/x", "https://gİthub.com/x", "//xn--github-qyd.com/x"} {
		var got []string
		named := serve(func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Location"] = []string{location}
			w.WriteHeader(http.StatusFound)
		})
		other := serve(func(w http.ResponseWriter, r *http.Request) {
			got = append(got, r.Host+" "+r.Header.Get("Authorization"))
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(object))
		})
		proxy := pulltest.NewProxy(t, map[string]string{
			"github.com:443":         named.Listener.Addr().String(),
			"xn--github-qyd.com:443": other.Listener.Addr().String(),
		}, nil)
		mustPull(t, openStore(t), Request{
			URL: "https://github.com/x", RootCAs: roots, Proxy: proxy.Choose, Connections: 1,
			Header: http.Header{"Authorization": {"Bearer SECRET"}},
		})
		if len(got) == 0 || strings.Contains(strings.Join(got, ""), "SECRET") || !strings.HasPrefix(got[0], "xn--github-qyd.com") {
			t.Errorf("%s: the other server saw %q", location, got)
		}
	}
}

// TestWhatAURLBecomesOnTheWire pulls through a redirect, with what people and
// servers write into URLs.
func TestWhatAURLBecomesOnTheWire(t *testing.T) {
	t.Parallel()
	object := pulltest.RandomBytes(1, 1<<20)
	for _, tt := range []struct{ written, wire string }{
		{"/debian 13.qcow2?a b", "/debian%2013.qcow2?a%20b"},
		{"/größe?ä", "/gr%C3%B6%C3%9Fe?%C3%A4"},
		{"/\xe4", "/%E4"},
		{"/100%?50%", "/100%25?50%25"},
		{"/a%2Fb c?sig=%2f+%20", "/a%2Fb%20c?sig=%2f+%20"},
	} {
		var seen []string
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r.RequestURI)
			if strings.HasPrefix(r.RequestURI, "/to") {
				w.Header()["Location"] = []string{tt.written}
				w.WriteHeader(http.StatusFound)
				return
			}
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(object))
		}))
		t.Cleanup(server.Close)
		for _, raw := range []string{server.URL + tt.written, server.URL + "/to"} {
			seen = nil
			mustPull(t, openStore(t), Request{URL: raw, Connections: 1})
			if last := seen[len(seen)-1]; last != tt.wire {
				t.Errorf("%q was asked as %q, want %q", raw, last, tt.wire)
			}
		}
	}
}

// TestUnfinishedPullsKeepTheirNames: what an earlier version left of a pull without
// a digest is found under the URL as it was written then.
func TestUnfinishedPullsKeepTheirNames(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"https://example.org/disk.qcow2", "https://Example.ORG:443/disk.qcow2?v=1#x", "https://bücher.example/d", "https://h.example/a b?c d",
		"https://h.example/a%2Fb c", "https://h.example:0443/x",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		u.Fragment, u.RawFragment = "", ""
		sum := sha256.Sum256([]byte("\n" + unsigned(u)))
		j, err := newJob(Request{URL: raw})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := workKey(j), "url-"+hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s is kept under %s, and was under %s", raw, got, want)
		}
	}
	if _, err := newJob(Request{URL: "https://h.example/100%"}); err != nil {
		t.Errorf("a URL that was refused before: %v", err)
	}
}
