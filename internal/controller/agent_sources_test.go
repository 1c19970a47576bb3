package controller

import (
	"context"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// oneObject answers every read with one Secret or ConfigMap, or with not found.
type oneObject struct {
	client.Reader
	secret *corev1.Secret
	config *corev1.ConfigMap
}

func (o oneObject) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	switch into := into.(type) {
	case *corev1.Secret:
		if o.secret != nil {
			o.secret.DeepCopyInto(into)
			return nil
		}
	case *corev1.ConfigMap:
		if o.config != nil {
			o.config.DeepCopyInto(into)
			return nil
		}
	}
	return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	secret := func(kind corev1.SecretType, hosts string, data map[string]string) *corev1.Secret {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Type: kind, Data: map[string][]byte{}}
		if hosts != "" {
			s.Annotations = map[string]string{v1alpha1.AllowedHostsAnnotation: hosts}
		}
		for key, value := range data {
			s.Data[key] = []byte(value)
		}
		return s
	}
	const host = "images.example.com"
	token := map[string]string{"token": "abc\n"}
	for name, tt := range map[string]struct {
		secret *corev1.Secret
		url    string
		want   http.Header
		reason string
	}{
		"basic": {
			secret: secret(corev1.SecretTypeBasicAuth, host, map[string]string{"username": "Aladdin", "password": "open sesame"}),
			want:   http.Header{"Authorization": {"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}}, // RFC 7617 §2
		},
		"bearer":                         {secret: secret(corev1.SecretTypeOpaque, host, token), want: http.Header{"Authorization": {"Bearer abc"}}},
		"headers":                        {secret: secret("", host, map[string]string{"header.X-Api-Key": "k\n"}), want: http.Header{"X-Api-Key": {"k"}}},
		"wildcard":                       {secret: secret("", "*.example.com", token), want: http.Header{"Authorization": {"Bearer abc"}}},
		"second of a list":               {secret: secret("", "other.org, Images.Example.COM", token), want: http.Header{"Authorization": {"Bearer abc"}}},
		"with a port":                    {secret: secret("", host, token), url: "https://images.example.com:8443/x", want: http.Header{"Authorization": {"Bearer abc"}}},
		"no Secret":                      {reason: v1alpha1.ReasonCredentialsMissing},
		"no usable key":                  {secret: secret("", host, map[string]string{"password": "x"}), reason: v1alpha1.ReasonCredentialsMissing},
		"no annotation":                  {secret: secret("", "", token), reason: v1alpha1.ReasonPolicyDenied},
		"other host":                     {secret: secret("", "example.com", token), reason: v1alpha1.ReasonPolicyDenied},
		"wildcard of itself":             {secret: secret("", "*.images.example.com", token), reason: v1alpha1.ReasonPolicyDenied},
		"only a star":                    {secret: secret("", "*.", token), reason: v1alpha1.ReasonPolicyDenied},
		"suffix of a name":               {secret: secret("", "*.example.com", token), url: "https://badexample.com/x", reason: v1alpha1.ReasonPolicyDenied},
		"I with a dot above":             {secret: secret("", "github.com", token), url: "https://gİthub.com/x", reason: v1alpha1.ReasonPolicyDenied},
		"I with a dot above, encoded":    {secret: secret("", "github.com", token), url: "https://g%C4%B0thub.com/x", reason: v1alpha1.ReasonPolicyDenied},
		"below it":                       {secret: secret("", "*.github.com", token), url: "https://a.gİthub.com/x", reason: v1alpha1.ReasonPolicyDenied},
		"other letters":                  {secret: secret("", "BÜCHER.example", token), url: "https://xn--bcher-kva.example/x", want: http.Header{"Authorization": {"Bearer abc"}}},
		"below an address":               {secret: secret("", "*.0.2.7", token), url: "https://192.0.2.7/x", reason: v1alpha1.ReasonPolicyDenied},
		"a pattern that is no host":      {secret: secret("", "https://images.example.com", token), reason: v1alpha1.ReasonPolicyDenied},
		"no host beside one that is one": {secret: secret("", "a b, images.example.com", token), want: http.Header{"Authorization": {"Bearer abc"}}},
		"a port that is none":            {secret: secret("", host, token), url: "https://images.example.com:99999/x", reason: v1alpha1.ReasonInvalidSource},
		"in clear":                       {secret: secret("", host, token), url: "http://images.example.com/x", reason: v1alpha1.ReasonPolicyDenied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := &v1alpha1.HTTPSource{URL: "https://" + host + "/x", SecretRef: &v1alpha1.ObjectReference{Name: "s"}}
			if tt.url != "" {
				source.URL = tt.url
			}
			access, err := (&Sources{Reader: oneObject{secret: tt.secret}, Namespace: "ns"}).AccessTo(t.Context(), source)
			if tt.reason != "" {
				if err == nil || reasonOf(err) != tt.reason {
					t.Fatalf("error %v, want reason %s", err, tt.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, access.Header); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAuthorities(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	for name, tt := range map[string]struct {
		config *corev1.ConfigMap
		reason string
	}{
		"bundle":       {config: &corev1.ConfigMap{Data: map[string]string{"ca.crt": certificate}}},
		"no ConfigMap": {reason: v1alpha1.ReasonCABundleMissing},
		"no key":       {config: &corev1.ConfigMap{}, reason: v1alpha1.ReasonCABundleMissing},
		"not PEM":      {config: &corev1.ConfigMap{Data: map[string]string{"ca.crt": "x"}}, reason: v1alpha1.ReasonCABundleMissing},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := &v1alpha1.HTTPSource{URL: server.URL, CABundleRef: &v1alpha1.ObjectReference{Name: "c"}}
			access, err := (&Sources{Reader: oneObject{config: tt.config}, Namespace: "ns"}).AccessTo(t.Context(), source)
			if tt.reason != "" {
				if err == nil || reasonOf(err) != tt.reason {
					t.Fatalf("error %v, want reason %s", err, tt.reason)
				}
				return
			}
			if err != nil || access.RootCAs == nil {
				t.Fatalf("no authorities: %v", err)
			}
		})
	}
}
