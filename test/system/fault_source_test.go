package system

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// healing is how long a pull that waits for a Secret may take to see it: it looks every 75 seconds at most.
const healing = 2 * patience

// TestFault19Credentials rotates a password, deletes it and brings it back. Nothing is restarted.
func TestFault19Credentials(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "rotated", 1)
	g.observe(t)
	var password atomic.Value
	password.Store("first")
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password.Load() {
			suite.origin.Refuse(w, r, http.StatusUnauthorized)
			return
		}
		suite.origin.ServeHTTP(w, r)
	}))
	elsewhere := httptest.NewUnstartedServer(suite.origin) // a server that the Secret does not name
	ca := authority(t, time.Now())
	for _, s := range []*httptest.Server{server, elsewhere} {
		s.TLS = &tls.Config{Certificates: []tls.Certificate{ca.certificate}, MinVersion: tls.VersionTLS13}
		s.StartTLS()
		t.Cleanup(s.Close)
	}
	create(t, &corev1.ConfigMap{ObjectMeta: inSources("rotated-ca"), Data: map[string]string{"ca.crt": ca.pem}})
	secret := func(password string) *corev1.Secret {
		s := &corev1.Secret{
			ObjectMeta: inSources("rotated"), Type: corev1.SecretTypeBasicAuth,
			StringData: map[string]string{"username": "warm", "password": password},
		}
		s.Annotations = map[string]string{v1alpha1.AllowedHostsAnnotation: "127.0.0.1"}
		return s
	}
	create(t, secret("first"))
	private := func(spec *v1alpha1.CloudImageSpec) {
		spec.Source.HTTP.URL = strings.Replace(spec.Source.HTTP.URL, suite.origin.URL, server.URL, 1)
		spec.Source.HTTP.SecretRef = &v1alpha1.ObjectReference{Name: "rotated"}
		spec.Source.HTTP.CABundleRef = &v1alpha1.ObjectReference{Name: "rotated-ca"}
	}

	before := g.serve(t, 2*mib, 1, origin.File{})
	g.apply(t, "rotated-before", before, private)
	waitCondition(t, "rotated-before", v1alpha1.ConditionReady)
	requireOnlyCredential(t, before, "first")

	password.Store("second")
	if err := suite.client.Update(t.Context(), secret("second")); err != nil {
		t.Fatal(err)
	}
	after := g.serve(t, 2*mib, 2, origin.File{})
	g.apply(t, "rotated-after", after, private)
	waitCondition(t, "rotated-after", v1alpha1.ConditionReady)
	requireOnlyCredential(t, after, "second")

	if err := suite.client.Delete(t.Context(), secret("")); err != nil {
		t.Fatal(err)
	}
	healed := g.serve(t, 2*mib, 3, origin.File{})
	g.apply(t, "rotated-healed", healed, private)
	g.waitFailure(t, "rotated-healed", v1alpha1.ReasonCredentialsMissing, "Secret cloudimage-sources/rotated does not exist: create it")
	if asked := suite.origin.Requests(healed.urlPath); len(asked) > 0 {
		t.Errorf("a server was asked without the credentials: %+v", asked)
	}
	if err := suite.client.Create(t.Context(), secret("second")); err != nil {
		t.Fatal(err)
	}
	within(t, healing, "the image whose Secret is back", func(ctx context.Context) error {
		return g.ready(ctx, "rotated-healed", 1, healed.digest)
	})
	requireOnlyCredential(t, healed, "second")

	open := g.serve(t, 2*mib, 4, origin.File{})
	g.apply(t, "rotated-elsewhere", open, func(spec *v1alpha1.CloudImageSpec) {
		private(spec)
		spec.Source.HTTP.URL = strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1) + open.urlPath
	})
	g.waitFailure(t, "rotated-elsewhere", v1alpha1.ReasonPolicyDenied, "does not name the host localhost")
	if asked := suite.origin.Requests(open.urlPath); len(asked) > 0 {
		t.Errorf("a server was asked that the Secret does not name: %+v", asked)
	}
}

// requireOnlyCredential checks the access log of a file.
func requireOnlyCredential(t *testing.T, f *file, password string) {
	t.Helper()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("warm:"+password))
	requests := suite.origin.Requests(f.urlPath)
	if len(requests) == 0 {
		t.Errorf("nobody asked for %s", f.urlPath)
	}
	for _, request := range requests {
		if request.Authorization != want {
			t.Errorf("%s was asked for with %q, want %q", f.urlPath, request.Authorization, want)
		}
	}
}

// waitFailure waits until the only node of a group has failed with a reason and a message that says so much.
func (g *group) waitFailure(t *testing.T, name, reason, says string) {
	t.Helper()
	eventually(t, "a failure of "+name, func(ctx context.Context) error {
		image := &v1alpha1.CloudImage{}
		if err := g.client.Get(ctx, client.ObjectKey{Name: name}, image); err != nil {
			return err
		}
		if f := image.Status.Failures; len(f) != 1 || f[0].Reason != reason || !strings.Contains(f[0].Message, says) {
			return fmt.Errorf("failures %+v, want %s with %q", f, reason, says)
		}
		return nil
	})
}

// TestFault30ClockOff is what a node sees whose clock is a day slow or fast: certificates that begin tomorrow or ended yesterday.
// When the clock is right again, so is the image.
func TestFault30ClockOff(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "clock", 1)
	g.observe(t)
	for i, name := range []string{"slow", "fast"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			name, off := "clock-"+name, []time.Duration{24 * time.Hour, -24 * time.Hour}[i]
			f := g.serve(t, 2*mib, uint64(i), origin.File{})
			now, wrong := authority(t, time.Now()), authority(t, time.Now().Add(off))
			var current atomic.Pointer[tls.Certificate]
			current.Store(&wrong.certificate)
			server := httptest.NewUnstartedServer(suite.origin)
			server.TLS = &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return &tls.Config{Certificates: []tls.Certificate{*current.Load()}, MinVersion: tls.VersionTLS13}, nil
			}}
			server.StartTLS()
			t.Cleanup(server.Close)
			create(t, &corev1.ConfigMap{ObjectMeta: inSources(name), Data: map[string]string{"ca.crt": now.pem + wrong.pem}})
			g.apply(t, name, f, func(spec *v1alpha1.CloudImageSpec) {
				spec.Source.HTTP.URL = server.URL + f.urlPath
				spec.Source.HTTP.CABundleRef = &v1alpha1.ObjectReference{Name: name}
			})
			g.waitFailure(t, name, v1alpha1.ReasonSourceUnavailable, "not valid at this node's time: set its clock")
			if sent := suite.origin.BytesSent(f.urlPath); sent > 0 {
				t.Errorf("%d bytes were taken from a server that cannot be trusted", sent)
			}
			current.Store(&now.certificate)
			eventually(t, "the image, once the clock is right", func(ctx context.Context) error {
				return g.ready(ctx, name, 1, f.digest)
			})
		})
	}
}

// ownAuthority is a certificate that nobody trusts by himself.
type ownAuthority struct {
	certificate tls.Certificate
	pem         string
}

// authority makes one for 127.0.0.1 and localhost that is valid for two hours around a time.
func authority(t *testing.T, at time.Time) ownAuthority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: at.Add(-time.Hour), NotAfter: at.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return ownAuthority{
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem:         string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
	}
}
