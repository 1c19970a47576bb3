package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestAnAuthorityIsNamedWhereThePullWasOrdered: the command line tells its flag, a
// CloudImage's message its field.
func TestAnAuthorityIsNamedWhereThePullWasOrdered(t *testing.T) {
	t.Parallel()
	server := pulltest.NewTLS(t, pulltest.Random(1, 1<<20))
	code, stdout, _ := runCLI(t.Context(), "--store", t.TempDir(), "--output=json", server.URL)
	var got pullFailure
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != pullFailed {
		t.Fatalf("exit code %d, output %q, %v", code, stdout, err)
	}
	if !strings.Contains(got.Message, "--cacert") || strings.Contains(got.Message, "caBundleRef") {
		t.Errorf("the command line says %q", got.Message)
	}

	store, err := pull.Open(t.Context(), t.TempDir(), pull.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	n := &nodeStore{
		store: store, metrics: controller.NewAgentMetrics(prometheus.NewRegistry()),
		sources: &controller.Sources{Reader: bundleReader{t: t}, Namespace: "sources"},
	}
	for say, ref := range map[string]*v1alpha1.ObjectReference{
		"name in caBundleRef a ConfigMap of sources with its certificate, under the key ca.crt": nil,
		"to the ConfigMap sources/ca that caBundleRef names":                                    {Name: "ca"},
	} {
		_, err := n.Pull(t.Context(), v1alpha1.AssignedImage{Name: "debian", Source: v1alpha1.ImageSource{HTTP: &v1alpha1.HTTPSource{
			URL: server.URL, CABundleRef: ref,
		}}}, nil, func(controller.Progress) {})
		reasoned, ok := errors.AsType[*pull.Error](err)
		if !ok || reasoned.Reason() != v1alpha1.ReasonSourceUnavailable || !strings.Contains(err.Error(), say) || strings.Contains(err.Error(), "--cacert") {
			t.Errorf("an image's message says %q, want %q", err, say)
		}
	}
}

// bundleReader answers every read with the certificate of another authority.
type bundleReader struct {
	client.Reader
	t *testing.T
}

func (r bundleReader) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		r.t.Fatal(err)
	}
	into.(*corev1.ConfigMap).Data = map[string]string{"ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	return nil
}
