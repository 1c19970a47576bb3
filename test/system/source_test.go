package system

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestPrivateSource pulls from a server that asks for a password and has a certificate of its own authority.
func TestPrivateSource(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "private", 1)
	f := g.serve(t, 2*mib, 1, origin.File{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "warm" || password != "secret" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		suite.origin.ServeHTTP(w, r)
	}))
	certificate := serveWithOwnAuthority(t, server)
	create(t, &corev1.ConfigMap{ObjectMeta: inSources("private-ca"), Data: map[string]string{"ca.crt": certificate}})
	for name, host := range map[string]string{"private-here": "127.0.0.1", "private-elsewhere": "*.example.com"} {
		secret := &corev1.Secret{
			ObjectMeta: inSources(name), Type: corev1.SecretTypeBasicAuth,
			StringData: map[string]string{"username": "warm", "password": "secret"},
		}
		secret.Annotations = map[string]string{v1alpha1.AllowedHostsAnnotation: host}
		create(t, secret)
	}
	for name, tt := range map[string]struct {
		secret, bundle string
		reason         string // empty: Ready
	}{
		"private-1": {secret: "private-here", bundle: "private-ca"},
		"private-2": {secret: "private-elsewhere", bundle: "private-ca", reason: v1alpha1.ReasonPolicyDenied},
		"private-3": {secret: "private-nowhere", bundle: "private-ca", reason: v1alpha1.ReasonCredentialsMissing},
		"private-4": {secret: "private-here", bundle: "private-nowhere", reason: v1alpha1.ReasonCABundleMissing},
		"private-5": {bundle: "private-ca", reason: v1alpha1.ReasonForbidden},
		"private-6": {secret: "private-here", reason: v1alpha1.ReasonSourceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g.apply(t, name, f, func(spec *v1alpha1.CloudImageSpec) {
				spec.Digest = ""
				spec.Source.HTTP = &v1alpha1.HTTPSource{URL: server.URL + f.urlPath}
				if tt.secret != "" {
					spec.Source.HTTP.SecretRef = &v1alpha1.ObjectReference{Name: tt.secret}
				}
				if tt.bundle != "" {
					spec.Source.HTTP.CABundleRef = &v1alpha1.ObjectReference{Name: tt.bundle}
				}
			})
			if tt.reason == "" {
				waitCondition(t, name, v1alpha1.ConditionReady)
				return
			}
			eventually(t, "a failure of "+name, func(ctx context.Context) error {
				image := &v1alpha1.CloudImage{}
				if err := suite.client.Get(ctx, client.ObjectKey{Name: name}, image); err != nil {
					return err
				}
				if failures := image.Status.Failures; len(failures) != 1 || failures[0].Reason != tt.reason {
					return fmt.Errorf("failures %+v, want %s", failures, tt.reason)
				}
				return nil
			})
		})
	}
}

// serveWithOwnAuthority starts the server with a certificate that nobody trusts by himself, and returns it.
func serveWithOwnAuthority(t *testing.T, server *httptest.Server) string {
	t.Helper()
	own := authority(t, time.Now())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{own.certificate}, MinVersion: tls.VersionTLS13}
	server.StartTLS()
	t.Cleanup(server.Close)
	return own.pem
}

func inSources(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: harness.SourceNamespace, Name: name}
}

func create(t *testing.T, object client.Object) {
	t.Helper()
	if err := suite.client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := suite.client.Delete(context.Background(), object); err != nil {
			t.Error(err)
		}
	})
}
