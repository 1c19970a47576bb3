package system

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
)

// leavingNode is a Node that is being deleted until the test ends: the manager leaves its object alone.
func leavingNode(t *testing.T, name string) *corev1.Node {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: []string{"test.cloudimage.dev/leaving"}}}
	if err := suite.client.Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		all := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
		if err := suite.client.Patch(context.WithoutCancel(t.Context()), node, all); err != nil {
			t.Error(err)
		}
	})
	if err := suite.client.Delete(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	return node
}

// TestOrdersAndWhatTheyWerePlannedFrom: the API server takes orders beside the reports of a node, and none over newer orders.
func TestOrdersAndWhatTheyWerePlannedFrom(t *testing.T) {
	t.Parallel()
	c, ctx := suite.client, t.Context()
	planned := &v1alpha1.NodeImageCache{Spec: v1alpha1.NodeImageCacheSpec{NodeUID: "u"}}
	planned.Name = leavingNode(t, "orders-of-a-node").Name
	if err := c.Create(ctx, planned); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Delete(context.WithoutCancel(ctx), planned) })
	order := v1alpha1.AssignedImage{
		Name: "a", Revision: "r1", Action: v1alpha1.ActionHold, Digest: "sha256:" + strings.Repeat("a", 64),
		Source: v1alpha1.ImageSource{HTTP: &v1alpha1.HTTPSource{URL: "https://images.example.com/a"}},
	}
	write := func(images ...v1alpha1.AssignedImage) error {
		patch, err := controller.OrdersPatch(planned, images)
		if err != nil {
			t.Fatal(err)
		}
		return c.Patch(ctx, &v1alpha1.NodeImageCache{ObjectMeta: *planned.ObjectMeta.DeepCopy()}, patch)
	}
	reported := planned.DeepCopy()
	reported.Status.NodeUID = "u"
	if err := c.Status().Patch(ctx, reported, client.MergeFrom(planned)); err != nil {
		t.Fatal(err)
	}
	if reported.ResourceVersion == planned.ResourceVersion {
		t.Fatal("the report changed nothing")
	}
	if err := write(v1alpha1.AssignedImage{Name: "a"}); err == nil || controller.IsOutdated(err) {
		t.Errorf("invalid orders: %v", err)
	}
	planned.Spec.Images = []v1alpha1.AssignedImage{order}
	planned.Spec.Images[0].Action = v1alpha1.ActionPull
	if err := write(order); !controller.IsOutdated(err) {
		t.Errorf("a slot taken back in spite of a report: %v", err)
	}
	planned.Spec.Images = nil
	if err := write(order); err != nil {
		t.Fatalf("orders beside a report: %v", err)
	}
	if err := write(); !controller.IsOutdated(err) {
		t.Errorf("old orders over new ones: %v", err)
	}
	var now v1alpha1.NodeImageCache
	if err := c.Get(ctx, client.ObjectKeyFromObject(planned), &now); err != nil || len(now.Spec.Images) != 1 {
		t.Errorf("orders %+v, error %v", now.Spec.Images, err)
	}
	planned.Generation = now.Generation
	planned.UID = "another"
	if err := write(); !controller.IsOutdated(err) {
		t.Errorf("orders for an object that is gone: %v", err)
	}
}
