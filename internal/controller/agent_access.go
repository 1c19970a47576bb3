package controller

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// Version tells the Secret and the ConfigMap that a source names from what they
// were before or become later, without reading what is in them.
func (s *Sources) Version(ctx context.Context, source *v1alpha1.HTTPSource) (string, error) {
	secret, err := s.version(ctx, "Secret", source.SecretRef)
	if err != nil {
		return "", err
	}
	bundle, err := s.version(ctx, "ConfigMap", source.CABundleRef)
	return secret + " " + bundle, err
}

func (s *Sources) version(ctx context.Context, kind string, ref *v1alpha1.ObjectReference) (string, error) {
	if ref == nil {
		return "none", nil
	}
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind))
	err := s.Reader.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: ref.Name}, object)
	if apierrors.IsNotFound(err) {
		return "missing", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at %s %s/%s: %w", kind, s.Namespace, ref.Name, err)
	}
	return string(object.UID) + "/" + object.ResourceVersion, nil
}

// namesAccess tells whether an order's source names a Secret or a ConfigMap.
func namesAccess(order v1alpha1.AssignedImage) bool {
	source := order.Source.HTTP
	return source != nil && (source.SecretRef != nil || source.CABundleRef != nil)
}

// accessVersion is that of what an order's source names; empty if it names
// nothing, or if that cannot be told now.
func (im *Images) accessVersion(ctx context.Context, order v1alpha1.AssignedImage) string {
	if im.AccessVersion == nil || !namesAccess(order) {
		return ""
	}
	version, err := im.AccessVersion(ctx, order.Source.HTTP)
	if err != nil {
		return ""
	}
	return version
}

// noteAccess keeps the version with the image, and not with the order: it may have
// changed while the image was held.
func (im *Images) noteAccess(ctx context.Context, order v1alpha1.AssignedImage) {
	version := im.accessVersion(ctx, order)
	im.mu.Lock()
	defer im.mu.Unlock()
	if e := im.entries[order.Name]; e != nil && ctx.Err() == nil {
		e.access = version
	}
}

func (im *Images) accessBefore(name string) string {
	im.mu.Lock()
	defer im.mu.Unlock()
	if e := im.entries[name]; e != nil {
		return e.access
	}
	return ""
}

// awaitNewAccess waits, after a failure that other credentials may heal, until
// they are others than before, and says so. It does not try again by itself: the
// manager decides which node does, and when.
func (im *Images) awaitNewAccess(ctx context.Context, order v1alpha1.AssignedImage) {
	status, before := im.statusOf(order.Name), im.accessBefore(order.Name)
	if im.AccessVersion == nil || !namesAccess(order) || status.State != v1alpha1.StateFailed || !healable(status.Reason) || status.Reason == v1alpha1.ReasonCredentialsChanged {
		return
	}
	for {
		pause, _ := backoff(classWait, 1, 0, im.Random())
		if !sleep(ctx, pause) {
			return
		}
		now := im.accessVersion(ctx, order)
		switch {
		case now == "":
		case before == "":
			before = now
		case now != before:
			im.update(ctx, order.Name, func(s *v1alpha1.ImageStatus) {
				s.Message = clip(fmt.Sprintf("the Secret or ConfigMap that the source names has changed since the pull ended with %s: %s", s.Reason, s.Message))
				s.Reason = v1alpha1.ReasonCredentialsChanged
			})
			return
		}
	}
}
