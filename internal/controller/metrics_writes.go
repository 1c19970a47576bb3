package controller

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// MeasureWrites returns a client whose writes are measured. It stands around the
// client rather than beside each write, so that none is forgotten.
func (m *ManagerMetrics) MeasureWrites(c client.Client) client.Client {
	return &measuredClient{Client: c, metrics: m}
}

type measuredClient struct {
	client.Client

	metrics *ManagerMetrics
}

// Create implements client.Writer.
func (c *measuredClient) Create(ctx context.Context, object client.Object, options ...client.CreateOption) error {
	return c.metrics.measure(object, "", func() error { return c.Client.Create(ctx, object, options...) })
}

// Update implements client.Writer.
func (c *measuredClient) Update(ctx context.Context, object client.Object, options ...client.UpdateOption) error {
	return c.metrics.measure(object, "", func() error { return c.Client.Update(ctx, object, options...) })
}

// Patch implements client.Writer.
func (c *measuredClient) Patch(ctx context.Context, object client.Object, patch client.Patch, options ...client.PatchOption) error {
	return c.metrics.measure(object, "", func() error { return c.Client.Patch(ctx, object, patch, options...) })
}

// Delete implements client.Writer.
func (c *measuredClient) Delete(ctx context.Context, object client.Object, options ...client.DeleteOption) error {
	return c.metrics.measure(object, "", func() error { return c.Client.Delete(ctx, object, options...) })
}

// Status implements client.StatusClient.
func (c *measuredClient) Status() client.SubResourceWriter {
	return &measuredStatus{SubResourceWriter: c.Client.Status(), metrics: c.metrics}
}

type measuredStatus struct {
	client.SubResourceWriter

	metrics *ManagerMetrics
}

// Update implements client.SubResourceWriter.
func (s *measuredStatus) Update(ctx context.Context, object client.Object, options ...client.SubResourceUpdateOption) error {
	return s.metrics.measure(object, "/status", func() error { return s.SubResourceWriter.Update(ctx, object, options...) })
}

// Patch implements client.SubResourceWriter.
func (s *measuredStatus) Patch(ctx context.Context, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
	return s.metrics.measure(object, "/status", func() error { return s.SubResourceWriter.Patch(ctx, object, patch, options...) })
}

func (m *ManagerMetrics) measure(object client.Object, subresource string, write func() error) error {
	began := time.Now()
	err := write()
	m.writeSeconds.WithLabelValues(resourceOf(object)+subresource, resultOf(err)).Observe(time.Since(began).Seconds())
	return err
}

// resourceOf names the resources that the manager writes.
func resourceOf(object client.Object) string {
	switch object := object.(type) {
	case *v1alpha1.CloudImage:
		return "cloudimages"
	case *v1alpha1.NodeImageCache:
		return "nodeimagecaches"
	case *corev1.Node:
		return "nodes"
	case *metav1.PartialObjectMetadata:
		if object.GroupVersionKind() == corev1.SchemeGroupVersion.WithKind("Node") {
			return "nodes"
		}
	}
	return "other"
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return "success"
	case IsOutdated(err), apierrors.IsNotFound(err):
		return "conflict" // the snapshot was older than the object; the next pass mends it
	default:
		return "error"
	}
}
