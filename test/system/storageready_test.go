package system

import (
	"context"
	"fmt"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestWaitForTheStorageOfNodes waits with kubectl, and no longer than it does by itself, after orders that change nothing on the node.
func TestWaitForTheStorageOfNodes(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "storage", 2)
	f := g.serve(t, mib, 1, origin.File{})
	g.apply(t, "storage-a", f, nil)
	g.apply(t, "storage-b", f, nil)
	waitCondition(t, "storage-a", v1alpha1.ConditionReady)
	waitCondition(t, "storage-b", v1alpha1.ConditionReady)
	wait := func(after string, generation int64) {
		t.Helper()
		eventually(t, "new orders after "+after, func(ctx context.Context) error {
			for _, node := range g.nodes {
				cache := cacheNamed(node.Name)
				if err := g.client.Get(ctx, client.ObjectKeyFromObject(cache), cache); err != nil {
					return err
				}
				if cache.Generation <= generation {
					return fmt.Errorf("%s has generation %d", node.Name, cache.Generation)
				}
			}
			return nil
		})
		out, err := g.cluster.Kubectl(t.Context(), nil, "wait", "--for=condition=StorageReady", "nimg/"+g.nodes[0].Name, "nimg/"+g.nodes[1].Name)
		if err != nil {
			g.explain(t)
			t.Errorf("after %s: %v\n%s", after, err, out)
		}
	}
	last := func() (generation int64) {
		t.Helper()
		for _, node := range g.nodes {
			generation = max(generation, g.cache(t, node.Name).Generation)
		}
		return generation
	}
	before := last()
	if out, err := g.cluster.Kubectl(t.Context(), nil, "patch", "cimg/storage-a", "--type=merge", "--patch", `{"spec":{"download":{"connections":3}}}`); err != nil {
		t.Fatal(err, out)
	}
	wait("a change of limits", before)
	before = last()
	remove(t, "storage-b")
	wait("a deletion", before)
}
