package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
	"github.com/cloudimage-dev/cloudimage-operator/internal/diskimage"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

func TestEngineAndAPINameTheSameReasons(t *testing.T) {
	t.Parallel()
	for reason, want := range map[pull.Reason]string{
		pull.SourceUnavailable: v1alpha1.ReasonSourceUnavailable, pull.SourceThrottled: v1alpha1.ReasonSourceThrottled,
		pull.SourceStalled: v1alpha1.ReasonSourceStalled, pull.SourceChanged: v1alpha1.ReasonSourceChanged,
		pull.StorageError: v1alpha1.ReasonStorageError, pull.InsufficientSpace: v1alpha1.ReasonInsufficientSpace,
		pull.DigestMismatch: v1alpha1.ReasonDigestMismatch, pull.NotFound: v1alpha1.ReasonNotFound,
		pull.Forbidden: v1alpha1.ReasonForbidden, pull.InvalidSource: v1alpha1.ReasonInvalidSource,
		pull.TooLarge: v1alpha1.ReasonTooLarge, pull.UnsupportedContent: v1alpha1.ReasonUnsupportedContent,
		pull.PolicyDenied: v1alpha1.ReasonPolicyDenied,
	} {
		if got := (&pull.Error{Kind: reason}).Reason(); got != want {
			t.Errorf("the engine says %q, the API %q", got, want)
		}
	}
}

func TestEngineAndAPINameTheSameFormats(t *testing.T) {
	t.Parallel()
	want := controller.Pulled{Format: v1alpha1.FormatQcow2, VirtualSizeBytes: 1 << 30, Encryption: v1alpha1.EncryptionLUKS}
	got := pulled(pull.Result{Format: pull.FormatQcow2, VirtualSizeBytes: 1 << 30, Encryption: diskimage.EncryptionLUKS})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for engine, api := range map[diskimage.Encryption]v1alpha1.ImageEncryption{
		diskimage.EncryptionLUKS: v1alpha1.EncryptionLUKS, diskimage.EncryptionAES: v1alpha1.EncryptionAES, diskimage.EncryptionNone: "",
	} {
		if string(engine) != string(api) {
			t.Errorf("the engine says %q, the API %q", engine, api)
		}
	}
}

func TestOrderBecomesRequest(t *testing.T) {
	t.Parallel()
	limit := resource.MustParse("50Mi")
	n := &nodeStore{userAgent: "agent"}
	got, err := n.request(v1alpha1.AssignedImage{
		Name: "debian", Digest: "sha256:ab", Format: v1alpha1.FormatRaw, MaxSize: resource.MustParse("1Gi"),
		Source:   v1alpha1.ImageSource{HTTP: &v1alpha1.HTTPSource{URL: "https://images.example/debian.raw"}},
		Download: v1alpha1.DownloadPolicy{Connections: 3, MaxBytesPerSecond: &limit, StallTimeoutSeconds: 7},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := pull.Request{
		URL: "https://images.example/debian.raw", Digest: "sha256:ab", Format: pull.FormatRaw, MaxSize: 1 << 30,
		Connections: 3, MaxBytesPerSecond: 50 << 20, StallTimeout: 7 * time.Second, Patience: pull.AskOnce, ImageName: "debian",
		Header: map[string][]string{"User-Agent": {"agent"}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported()); diff != "" {
		t.Error(diff)
	}
}

// TestPurgeDeletesWhatTheOrderNames: an order that came out of an older etcd may find other bytes under its name, or none.
func TestPurgeDeletesWhatTheOrderNames(t *testing.T) {
	t.Parallel()
	store, err := pull.Open(t.Context(), t.TempDir(), pull.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	fetch := func(seed uint64, name string) string {
		result, err := store.Pull(t.Context(), pull.Request{URL: pulltest.New(t, pulltest.Random(seed, 1<<20)).URL, ImageName: name}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return result.Digest
	}
	ordered, linked := fetch(1, "ordered"), fetch(2, "debian")
	if err := store.Unlink("ordered"); err != nil {
		t.Fatal(err)
	}
	if err := (&nodeStore{store: store}).Purge(v1alpha1.AssignedImage{Name: "debian", Digest: ordered}); err != nil {
		t.Fatal(err)
	}
	if store.Contains(ordered, 0) || !store.Contains(linked, 0) {
		t.Errorf("the blob that was named is there: %v, the other one: %v", store.Contains(ordered, 0), store.Contains(linked, 0))
	}
}

// secretReader answers every read with one Secret.
type secretReader struct {
	client.Reader
	data map[string][]byte
}

func (r secretReader) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	secret := into.(*corev1.Secret)
	secret.Annotations, secret.Data = map[string]string{v1alpha1.AllowedHostsAnnotation: "images.example.com"}, r.data
	return nil
}

// TestSecretThatNoRequestCanCarry is one to correct, as a missing one: the image needs no edit.
func TestSecretThatNoRequestCanCarry(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]map[string][]byte{
		"token of two lines": {"token": []byte("one\ntwo")},
		"header of its own":  {"header.Connection": []byte("close")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := &nodeStore{sources: &controller.Sources{Reader: secretReader{data: data}, Namespace: "sources"}}
			_, err := n.Pull(t.Context(), v1alpha1.AssignedImage{Source: v1alpha1.ImageSource{HTTP: &v1alpha1.HTTPSource{
				URL: "https://images.example.com/a", SecretRef: &v1alpha1.ObjectReference{Name: "s"},
			}}}, nil, nil)
			reasoned, ok := errors.AsType[badSecretError](err)
			if !ok || reasoned.Reason() != v1alpha1.ReasonCredentialsMissing || strings.Contains(err.Error(), "two") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestOrderWithoutASourceSaysWhy(t *testing.T) {
	t.Parallel()
	_, err := (&nodeStore{}).request(v1alpha1.AssignedImage{})
	reasoned, ok := errors.AsType[*pull.Error](err)
	if !ok || reasoned.Reason() != v1alpha1.ReasonInvalidSource {
		t.Errorf("error %v, want reason %s", err, v1alpha1.ReasonInvalidSource)
	}
}
