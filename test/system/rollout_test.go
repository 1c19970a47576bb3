package system

import (
	"context"
	"fmt"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
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

func TestWarmAndSameDigestAndDelete(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "warm", 2)
	f := g.serve(t, 8*mib, 1, origin.File{})
	g.apply(t, "warm", f, nil)
	image := waitCondition(t, "warm", v1alpha1.ConditionReady)
	if n := image.Status.Nodes; n.Desired != 2 || n.Ready != 2 || image.Status.SizeBytes != f.size || image.Status.Throughput == "" {
		t.Errorf("status %+v, want 2 of 2 nodes with %d bytes, and a throughput", image.Status, f.size)
	}
	g.requireOnly(t, f.digest)

	sent := suite.origin.BytesSent("")
	other := &file{urlPath: "/elsewhere/image.qcow2", digest: f.digest}
	suite.origin.Serve(other.urlPath, f.File)
	g.apply(t, "warm-copy", other, nil)
	waitCondition(t, "warm-copy", v1alpha1.ConditionReady)
	if nodes := suite.origin.Nodes(other.urlPath); len(nodes) > 0 {
		t.Errorf("nodes %q asked for bytes that they had (%d bytes sent)", nodes, suite.origin.BytesSent("")-sent)
	}

	remove(t, "warm")
	g.requireOnly(t, f.digest) // the copy still names it
	remove(t, "warm-copy")
	g.requireOnly(t)
}

// remove deletes an image and waits until its finalizer has ended.
func remove(t *testing.T, name string) {
	t.Helper()
	image := &v1alpha1.CloudImage{}
	image.Name = name
	if err := suite.client.Delete(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	eventually(t, "deletion of image "+name, func(ctx context.Context) error {
		err := suite.client.Get(ctx, client.ObjectKey{Name: name}, image)
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

func TestWrongDigestTouchesOneNode(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "wrong", 3)
	f := g.serve(t, 2*mib, 1, origin.File{})
	f.digest = "sha256:" + fmt.Sprintf("%064d", 0)
	g.apply(t, "wrong", f, limit(1))
	image := waitCondition(t, "wrong", v1alpha1.ConditionStalled)
	stalled := meta.FindStatusCondition(image.Status.Conditions, v1alpha1.ConditionStalled)
	if stalled.Reason != v1alpha1.ReasonDigestMismatch || image.Status.Nodes.Failed != 1 || len(image.Status.Failures) != 1 {
		t.Fatalf("status %+v, want one node that failed with DigestMismatch", image.Status)
	}
	if nodes := suite.origin.Nodes(f.urlPath); !slices.Equal(nodes, []string{image.Status.Failures[0].Node}) {
		t.Errorf("nodes %q asked for the image, want only the one that failed, %s", nodes, image.Status.Failures[0].Node)
	}
	g.requireOnly(t)
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
