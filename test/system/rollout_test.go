package system

import (
	"context"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

func limit(nodes int) func(*v1alpha1.CloudImageSpec) {
	return func(spec *v1alpha1.CloudImageSpec) {
		spec.Rollout.MaxConcurrentNodes = new(intstr.FromInt32(int32(nodes)))
	}
}

// remove deletes an image and waits until its finalizer has ended.
func remove(t *testing.T, name string) {
	t.Helper()
	suite.remove(t, name)
}

func (w *world) remove(t *testing.T, name string) {
	t.Helper()
	image := &v1alpha1.CloudImage{}
	image.Name = name
	if err := w.client.Delete(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	eventually(t, "deletion of image "+name, func(ctx context.Context) error {
		err := w.client.Get(ctx, client.ObjectKey{Name: name}, image)
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		default:
			return fmt.Errorf("it still has finalizers %q and conditions %+v", image.Finalizers, image.Status.Conditions)
		}
	})
}

func TestLaterNodeWarmsByItself(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "later", 1)
	f := g.serve(t, 2*mib, 1, origin.File{})
	g.apply(t, "later", f, nil)
	waitCondition(t, "later", v1alpha1.ConditionReady)
	g.waitAgent(t, g.add(t, "later-2"))
	eventually(t, "two ready nodes", func(ctx context.Context) error {
		image := &v1alpha1.CloudImage{}
		if err := suite.client.Get(ctx, client.ObjectKey{Name: "later"}, image); err != nil {
			return err
		}
		if image.Status.Nodes.Ready != 2 {
			return fmt.Errorf("status is %+v", image.Status)
		}
		return nil
	})
	g.requireOnly(t, f.digest)
}
