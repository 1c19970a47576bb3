package system

import (
	"context"
	"fmt"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

func TestFault01AgentKilledInMidPull(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "killed", 1)
	node := g.nodes[0]
	f := g.serve(t, 64*mib, 1, origin.File{BytesPerSecond: 3 * mib})
	g.apply(t, "killed", f, func(spec *v1alpha1.CloudImageSpec) { spec.Download.Connections = 4 })
	// Beyond the first checkpoint of the journal, which comes after 16 MiB.
	eventually(t, "a pull that is under way", func(context.Context) error { return atLeast(f, 40*mib) })
	if err := node.Kill(); err != nil {
		t.Fatal(err)
	}
	if sent := suite.origin.BytesSent(f.urlPath); sent >= f.size {
		t.Fatalf("%d bytes of %d were sent before the kill, which therefore came too late", sent, f.size)
	}
	suite.origin.Serve(f.urlPath, origin.File{Path: f.Path}) // the second attempt need not be slow
	image := waitCondition(t, "killed", v1alpha1.ConditionReady)
	if node.Starts() < 2 {
		t.Errorf("the agent was started %d times: image %+v became ready without it", node.Starts(), image.Status)
	}
	cache := cacheNamed(node.Name)
	if err := suite.client.Get(t.Context(), client.ObjectKeyFromObject(cache), cache); err != nil {
		t.Fatal(err)
	}
	if images := cache.Status.Images; len(images) != 1 || images[0].ResumedBytes < 16*mib {
		t.Errorf("the pull began anew: %+v", images)
	}
	g.requireOnly(t, f.digest)
}

// TestManagerKilledInMidRollout runs alone, because it takes the manager from everybody until the dead one's lease is over.
func TestManagerKilledInMidRollout(t *testing.T) {
	const nodes, slots = 8, 2
	g := newGroup(t, "rollout", nodes)
	f := g.serve(t, 4*mib, 1, origin.File{BytesPerSecond: mib})
	g.apply(t, "rollout", f, limit(slots))
	eventually(t, "a rollout that is under way", func(context.Context) error {
		if asked := suite.origin.Nodes(f.urlPath); len(asked) <= slots {
			return fmt.Errorf("only nodes %q have asked", asked)
		}
		return nil
	})
	if err := suite.cluster.Manager().Kill(); err != nil {
		t.Fatal(err)
	}
	if asked := suite.origin.Nodes(f.urlPath); len(asked) == nodes {
		t.Fatal("all nodes had asked before the kill, which therefore came too late")
	}
	image := waitCondition(t, "rollout", v1alpha1.ConditionReady)
	if image.Status.Nodes.Ready != nodes {
		t.Errorf("status %+v, want %d ready nodes", image.Status, nodes)
	}
	if most := suite.origin.MaxConcurrentNodes(f.urlPath); most > slots {
		t.Errorf("%d nodes pulled at once, the limit is %d; access log %+v", most, slots, suite.origin.Requests(f.urlPath))
	}
	g.requireOnly(t, f.digest)
}

func atLeast(f *file, bytes int64) error {
	if sent := suite.origin.BytesSent(f.urlPath); sent < bytes {
		return fmt.Errorf("%d of %d bytes were sent", sent, f.size)
	}
	return nil
}
