package controller

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/source"
)

const (
	caBundleKey     = "ca.crt"
	tokenKey        = "token"
	headerKeyPrefix = "header."
)

// Sources reads the Secrets and ConfigMaps that sources name, anew for each pull,
// so that rotated credentials count from the next one on.
type Sources struct {
	Reader    client.Reader
	Namespace string
}

// Access is what a source needs besides its URL.
type Access struct {
	// Header carries the credentials; nil if there are none.
	Header http.Header
	// RootCAs are the system's authorities and those of the bundle; nil for the
	// system's alone.
	RootCAs *x509.CertPool
}

// AccessTo reads what a source names. Its errors tell their reason:
// CredentialsMissing, CABundleMissing, InvalidSource or PolicyDenied.
func (s *Sources) AccessTo(ctx context.Context, from *v1alpha1.HTTPSource) (access Access, err error) {
	if ref := from.SecretRef; ref != nil {
		if access.Header, err = s.credentials(ctx, ref.Name, from.URL); err != nil {
			return Access{}, err
		}
	}
	if ref := from.CABundleRef; ref != nil {
		if access.RootCAs, err = s.authorities(ctx, ref.Name); err != nil {
			return Access{}, err
		}
	}
	return access, nil
}

func (s *Sources) credentials(ctx context.Context, name, rawURL string) (http.Header, error) {
	var secret corev1.Secret
	if err := s.Reader.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: name}, &secret); err != nil {
		return nil, s.missing(v1alpha1.ReasonCredentialsMissing, "Secret", name, err)
	}
	if err := mayCarry(&secret, rawURL); err != nil {
		return nil, err
	}
	return headerOf(&secret)
}

func (s *Sources) authorities(ctx context.Context, name string) (*x509.CertPool, error) {
	var bundle corev1.ConfigMap
	if err := s.Reader.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: name}, &bundle); err != nil {
		return nil, s.missing(v1alpha1.ReasonCABundleMissing, "ConfigMap", name, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a node without any is no reason to refuse the given ones
	}
	if !pool.AppendCertsFromPEM([]byte(bundle.Data[caBundleKey])) {
		return nil, sourceErrorf(v1alpha1.ReasonCABundleMissing, "ConfigMap %s/%s has no PEM certificate under the key %s", s.Namespace, name, caBundleKey)
	}
	return pool, nil
}

// missing tells an object that is not there from an API server that is away,
// which is tried again sooner.
func (s *Sources) missing(reason, kind, name string, err error) error {
	if apierrors.IsNotFound(err) {
		return sourceErrorf(reason, "%s %s/%s does not exist: create it", kind, s.Namespace, name)
	}
	return sourceErrorf(v1alpha1.ReasonSourceUnavailable, "read %s %s/%s: %v", kind, s.Namespace, name, err)
}

// mayCarry refuses to send a Secret to a host that it does not name: whoever may
// create a CloudImage could otherwise have any Secret of the namespace sent anywhere.
// What it compares is the address that the engine dials.
func mayCarry(secret *corev1.Secret, rawURL string) error {
	address, err := source.Parse(rawURL)
	if err != nil {
		return sourceErrorf(v1alpha1.ReasonInvalidSource, "%v", err)
	}
	if !address.Secure() {
		return sourceErrorf(v1alpha1.ReasonPolicyDenied, "credentials are sent over https:// only")
	}
	unreadable := ""
	for text := range strings.SplitSeq(secret.Annotations[v1alpha1.AllowedHostsAnnotation], ",") {
		pattern, err := source.ParseHostPattern(strings.TrimSpace(text))
		switch {
		case strings.TrimSpace(text) == "":
		case err != nil:
			unreadable = "; of what it does name, " + err.Error()
		case pattern.Matches(address):
			return nil
		}
	}
	return sourceErrorf(v1alpha1.ReasonPolicyDenied, "Secret %s/%s does not name the host %s in %s%s",
		secret.Namespace, secret.Name, address.Host(), v1alpha1.AllowedHostsAnnotation, unreadable)
}

// headerOf reads a kubernetes.io/basic-auth Secret, or the keys token (a bearer
// token, RFC 6750) and header.<Name> of any other.
func headerOf(secret *corev1.Secret) (http.Header, error) {
	header := http.Header{}
	if secret.Type == corev1.SecretTypeBasicAuth {
		pair := string(secret.Data[corev1.BasicAuthUsernameKey]) + ":" + string(secret.Data[corev1.BasicAuthPasswordKey])
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair))) // RFC 7617
		return header, nil
	}
	for key, value := range secret.Data {
		text := strings.TrimRight(string(value), "\r\n") // files end with a newline
		if name, ok := strings.CutPrefix(key, headerKeyPrefix); ok && name != "" {
			header.Set(name, text)
		}
	}
	if token, ok := secret.Data[tokenKey]; ok {
		header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	if len(header) == 0 {
		return nil, sourceErrorf(v1alpha1.ReasonCredentialsMissing, "Secret %s/%s has neither the type %s nor a key %s or %s<Name>",
			secret.Namespace, secret.Name, corev1.SecretTypeBasicAuth, tokenKey, headerKeyPrefix)
	}
	return header, nil
}

// sourceError is why a source cannot be used, with a documented reason.
type sourceError struct{ reason, message string }

func sourceErrorf(reason, format string, args ...any) error {
	return &sourceError{reason, fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *sourceError) Error() string { return e.message }

// Reason is one of the API's reasons.
func (e *sourceError) Reason() string { return e.reason }
