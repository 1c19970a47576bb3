package serve

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// running is a real manager with servers that were added to it.
type running struct {
	manager.Manager
	addresses map[string]string // by the name of the server
}

// Add implements manager.Manager.
func (r *running) Add(added manager.Runnable) error {
	if server, ok := added.(*manager.Server); ok {
		r.addresses[server.Name] = server.Listener.Addr().String()
	}
	return r.Manager.Add(added)
}

// run starts a manager with what is added to it, until the test ends. Its API server knows one token.
func run(t *testing.T, add ...func(manager.Manager) error) (*running, error) {
	t.Helper()
	plane := httptest.NewServer(http.HandlerFunc(answerReview))
	t.Cleanup(plane.Close)
	mgr, err := ctrl.NewManager(&rest.Config{Host: plane.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}, ctrl.Options{Metrics: metricsserver.Options{BindAddress: "0"}, Logger: logr.Discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mgr.GetHTTPClient().CloseIdleConnections)
	r := &running{mgr, map[string]string{}}
	for _, a := range add {
		if err := a(r); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended: %v", err)
		}
	})
	return r, nil
}

// answerReview knows the token "reader", whose user may get /metrics, and "nobody", whose user may nothing.
func answerReview(w http.ResponseWriter, r *http.Request) {
	content, _ := io.ReadAll(r.Body)
	var answer any
	switch {
	case strings.HasSuffix(r.URL.Path, "/tokenreviews"):
		asked := authenticationv1.TokenReview{}
		_ = json.Unmarshal(content, &asked)
		if asked.Spec.Token == "reader" || asked.Spec.Token == "nobody" {
			asked.Status = authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{Username: asked.Spec.Token}}
		}
		answer = asked
	case strings.HasSuffix(r.URL.Path, "/subjectaccessreviews"):
		asked := authorizationv1.SubjectAccessReview{}
		_ = json.Unmarshal(content, &asked)
		path := asked.Spec.NonResourceAttributes
		asked.Status.Allowed = asked.Spec.User == "reader" && path.Verb == "get" && path.Path == "/metrics"
		answer = asked
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

func gathered() prometheus.Gatherer {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "cloudimage_test", Help: "Test."}, func() float64 { return 1 }))
	return registry
}

func TestMetricsAreForThoseWhoMayReadThem(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		secure bool
		want   map[string]int // by token
	}{
		"secure": {true, map[string]int{"": 401, "forged": 401, "nobody": 403, "reader": 200}},
		"plain":  {false, map[string]int{"": 200}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := run(t, func(mgr manager.Manager) error {
				return Metrics{Address: "127.0.0.1:0", Secure: tt.secure}.AddTo(mgr, gathered())
			})
			if err != nil {
				t.Fatal(err)
			}
			for token, want := range tt.want {
				status, body, err := get(r.addresses["metrics"], token, tt.secure)
				if err != nil || status != want || strings.Contains(body, "cloudimage_test 1") != (want == http.StatusOK) {
					t.Errorf("with the token %q: status %d, error %v, want %d; %.100q", token, status, err, want, body)
				}
			}
		})
	}
}

func TestMetricsThatCannotBeServed(t *testing.T) {
	t.Parallel()
	complete, withoutKey := t.TempDir(), t.TempDir()
	writeCertificate(t, complete)
	writeCertificate(t, withoutKey)
	if err := os.Remove(filepath.Join(withoutKey, "tls.key")); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		metrics Metrics
		fails   bool
	}{
		"none":                     {Metrics{Address: "0", Secure: true}, false},
		"own certificate":          {Metrics{Address: "127.0.0.1:0", Secure: true, CertDir: complete}, false},
		"plain with a certificate": {Metrics{Address: "127.0.0.1:0", CertDir: complete}, true},
		"certificate without key":  {Metrics{Address: "127.0.0.1:0", Secure: true, CertDir: withoutKey}, true},
		"certificate from nowhere": {Metrics{Address: "127.0.0.1:0", Secure: true, CertDir: complete + "/none"}, true},
		"address from nowhere":     {Metrics{Address: "192.0.2.1:1", Secure: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := run(t, func(mgr manager.Manager) error { return tt.metrics.AddTo(mgr, gathered()) })
			if (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %t", err, tt.fails)
			}
		})
	}
}

// TestCertificateIsReadAgain: cert-manager replaces the files while the process runs.
func TestCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := writeCertificate(t, dir)
	r, err := run(t, func(mgr manager.Manager) error {
		return Metrics{Address: "127.0.0.1:0", Secure: true, CertDir: dir}.AddTo(mgr, gathered())
	})
	if err != nil {
		t.Fatal(err)
	}
	shown := func() string {
		c, err := tls.Dial("tcp", r.addresses["metrics"], &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	if got := shown(); got != first {
		t.Errorf("certificate %s is shown, want %s", got, first)
	}
	second := writeCertificate(t, dir)
	eventually(t, "the second certificate", func() bool { return shown() == second })
}

// writeCertificate makes a certificate in a directory and returns its serial number.
func writeCertificate(t *testing.T, dir string) string {
	t.Helper()
	certificate, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), 0o600),
		os.WriteFile(filepath.Join(dir, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return parsed.SerialNumber.String()
}

// TestStrangersDoNotStay: a place is kept for a peer's next request only if it had a right to an answer, whatever else it asked for.
func TestStrangersDoNotStay(t *testing.T) {
	t.Parallel()
	r, err := run(t, func(mgr manager.Manager) error {
		return Metrics{Address: "127.0.0.1:0", Secure: true}.AddTo(mgr, gathered())
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		request string
		stays   bool
	}{
		"what is not there":   {"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", false},
		"a path to be mended": {"GET //metrics HTTP/1.1\r\nHost: a\r\n\r\n", false},
		"options":             {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", false},
		"no token":            {"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", false},
		"a reader":            {"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer reader\r\n\r\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := tls.Dial("tcp", r.addresses["metrics"], &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, tt.request); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.Close == tt.stays {
				t.Errorf("%s: the connection is closed %t", response.Status, response.Close)
			}
		})
	}
}
