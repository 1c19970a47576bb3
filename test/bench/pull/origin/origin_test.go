package origin_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/origin"
)

const size = 4 << 20

func start(t *testing.T, options origin.Options) (*origin.Server, origin.Object) {
	t.Helper()
	object, err := origin.NewObject(t.Context(), size, 1)
	if err != nil {
		t.Fatal(err)
	}
	server, err := origin.Start(map[string]origin.Object{"/image": object}, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := object.Close(); err != nil {
			t.Error(err)
		}
	})
	return server, object
}

func get(t *testing.T, transport *http.Transport, url string) (digest string, proto int) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	hash := sha256.New()
	if _, err := io.Copy(hash, response.Body); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(hash.Sum(nil)), response.ProtoMajor
}

func TestCount(t *testing.T) {
	t.Parallel()
	server, object := start(t, origin.Options{})
	for range 2 {
		if digest, _ := get(t, &http.Transport{DisableKeepAlives: true}, server.URL+"/image"); digest != object.Digest {
			t.Errorf("digest %s, want %s", digest, object.Digest)
		}
	}
	server.Settle(t.Context())
	count := server.Count()
	if count.Sockets != 2 || count.Bytes < 2*size || count.Bytes > 2*size+4096 {
		t.Errorf("%+v, want 2 sockets and little more than %d bytes", count, 2*size)
	}
	server.Reset()
	if count := server.Count(); count != (origin.Count{}) {
		t.Errorf("%+v after a reset", count)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	const rate = 4 * size // so a quarter of a second, less what goes out in the first burst
	tests := []struct {
		name string
		pace *origin.Pace
	}{
		{"constant", origin.Constant(rate)},
		{"one slow, and not the first", origin.OneSlow(rate)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server, _ := start(t, origin.Options{Pace: test.pace})
			began := time.Now()
			get(t, &http.Transport{DisableKeepAlives: true}, server.URL+"/image")
			if took := time.Since(began); took < 150*time.Millisecond {
				t.Errorf("%d bytes at %d a second took %s", size, rate, took)
			}
		})
	}
}

func TestTLSOffersHTTP2(t *testing.T) {
	t.Parallel()
	config, pem, err := origin.NewTLS()
	if err != nil {
		t.Fatal(err)
	}
	server, object := start(t, origin.Options{TLS: config})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	if digest, proto := get(t, transport, server.URL+"/image"); digest != object.Digest || proto != 2 {
		t.Errorf("HTTP/%d, digest %s; want HTTP/2 and %s", proto, digest, object.Digest)
	}
}
