package system

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestNodeLabels follows the label that tells the scheduler where an image is.
func TestNodeLabels(t *testing.T) {
	t.Parallel()
	const label = v1alpha1.NodeLabelPrefix + "labelled"
	g := newGroup(t, "labelled", 2)
	f := g.serve(t, 2*mib, 1, origin.File{})
	g.apply(t, "labelled", f, nil)
	waitCondition(t, "labelled", v1alpha1.ConditionReady)
	value := f.digest[len("sha256:"):][:12]
	everyNodeHas := func(want string) {
		t.Helper()
		eventually(t, fmt.Sprintf("the label %q on both nodes", want), func(ctx context.Context) error {
			for _, node := range g.nodes {
				object := &corev1.Node{}
				if err := suite.client.Get(ctx, client.ObjectKey{Name: node.Name}, object); err != nil {
					return err
				}
				if got := object.Labels[label]; got != want || object.Labels[groupLabel] != g.name {
					return fmt.Errorf("%s has the labels %v", node.Name, object.Labels)
				}
			}
			return nil
		})
	}
	everyNodeHas(value)
	node := &corev1.Node{}
	node.Name = g.nodes[0].Name
	forged := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"`+label+`":"0123456789ab"}}}`))
	if err := suite.client.Patch(t.Context(), node, forged); err != nil {
		t.Fatal(err)
	}
	everyNodeHas(value)
	remove(t, "labelled")
	everyNodeHas("")
}
