package system

import (
	"context"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

// TestFault10ManagerKilledInMidRollout runs alone, because it takes the manager from everybody until the dead one's lease is over.
// The pulls that the dead one granted take longer than that: a successor that forgets them would grant two more.
func TestFault10ManagerKilledInMidRollout(t *testing.T) {
	const nodes, slots = 4, 2
	g := newGroup(t, "rollout", nodes)
	f := g.serve(t, 4*mib, 1, origin.File{BytesPerSecond: mib / 8})
	g.apply(t, "rollout", f, func(spec *v1alpha1.CloudImageSpec) {
		limit(slots)(spec)
		spec.Download.Connections = 1 // 32 s
	})
	eventually(t, "pulls in all slots", func(context.Context) error {
		if asked := suite.origin.Nodes(f.urlPath); len(asked) < slots {
			return fmt.Errorf("only nodes %q have asked", asked)
		}
		return nil
	})
	if err := suite.cluster.Manager().Kill(); err != nil {
		t.Fatal(err)
	}
	image := &v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{Name: "rollout"}}
	edit := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"download":{"stallTimeoutSeconds":77}}}`))
	if err := suite.client.Patch(t.Context(), image, edit); err != nil {
		t.Fatal(err)
	}
	edited := image.Generation
	eventually(t, "a plan of the next leader", func(ctx context.Context) error {
		if err := suite.client.Get(ctx, client.ObjectKeyFromObject(image), image); err != nil || image.Status.ObservedGeneration < edited {
			return fmt.Errorf("the status speaks of generation %d, not of %d: %w", image.Status.ObservedGeneration, edited, err)
		}
		return nil
	})
	if sent := suite.origin.BytesSent(f.urlPath); sent >= slots*f.size {
		t.Fatal("the first pulls were over before the next leader planned, which therefore came too late")
	}
	suite.origin.Serve(f.urlPath, origin.File{Path: f.Path}) // what comes later need not be slow
	image = waitCondition(t, "rollout", v1alpha1.ConditionReady)
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
