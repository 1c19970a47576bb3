package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestFault11NodeAddedAgain lets a machine go and another one come under its name, before the garbage collector has removed what
// the old Node owned: first one with an empty disk, then one with the same disk.
func TestFault11NodeAddedAgain(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "again", 2)
	g.observe(t)
	f := g.serve(t, 16*mib, 1, origin.File{})
	g.apply(t, "again", f, nil)
	waitCondition(t, "again", v1alpha1.ConditionReady)

	suite.origin.Serve(f.urlPath, origin.File{Path: f.Path, BytesPerSecond: mib / 2}) // so that the new machine is not ready at once
	old := g.cache(t, g.nodes[0].Name)
	g.addAgain(t, 0, true)
	eventually(t, "a new node that is not ready", func(ctx context.Context) error {
		image := &v1alpha1.CloudImage{}
		if err := suite.client.Get(ctx, client.ObjectKey{Name: "again"}, image); err != nil {
			return err
		}
		if n := image.Status.Nodes; n.Desired != 2 || n.Ready != 1 {
			return fmt.Errorf("counts are %+v, want 1 of 2 nodes ready", n)
		}
		return nil
	})
	eventually(t, "both nodes ready", func(ctx context.Context) error {
		err := g.ready(ctx, "again", 2, f.digest)
		if _, errBlob := os.Stat(blobPath(g.nodes[0].Store, f.digest)); err == nil && errBlob != nil {
			t.Fatalf("the Ready of the old machine counts for the new one: %v", errBlob)
		}
		return err
	})
	empty := g.requireNewObject(t, old, 0)

	sent := suite.origin.BytesSent(f.urlPath)
	g.addAgain(t, 0, false)
	eventually(t, "the disk is reported again", func(ctx context.Context) error {
		if uid := g.cacheUID(ctx, g.nodes[0].Name); uid == "" || uid == empty.UID {
			return errors.New("the object is the old machine's, or is not made anew yet")
		}
		if cache := g.cache(t, g.nodes[0].Name); cache.Status.NodeUID != cache.Spec.NodeUID {
			return errors.New("the agent has not answered yet") // the image's own counts rest for two seconds
		}
		return g.ready(ctx, "again", 2, f.digest)
	})
	g.requireNewObject(t, empty, 0)
	if again := suite.origin.BytesSent(f.urlPath) - sent; again > 0 {
		t.Errorf("%d bytes were downloaded that lay on the disk", again)
	}
	g.requireOnly(t, f.digest)
}

// addAgain replaces a Node by another of its name, with an empty disk or with the same.
func (g *group) addAgain(t *testing.T, at int, empty bool) {
	t.Helper()
	node := g.nodes[at]
	if err := g.cluster.DeleteNode(t.Context(), node.Name); err != nil {
		t.Fatal(err)
	}
	if empty {
		if err := os.RemoveAll(node.Store); err != nil {
			t.Fatal(err)
		}
	}
	again, err := g.cluster.AddNode(t.Context(), node.Name, map[string]string{groupLabel: g.name})
	if err != nil {
		t.Fatal(err)
	}
	g.nodes[at] = again
	g.waitAgent(t, again)
}

// requireNewObject checks that the object of a node was made anew for the Node that is there now.
func (g *group) requireNewObject(t *testing.T, old *v1alpha1.NodeImageCache, at int) *v1alpha1.NodeImageCache {
	t.Helper()
	cache, node := g.cache(t, g.nodes[at].Name), &corev1.Node{}
	if err := g.client.Get(t.Context(), client.ObjectKey{Name: cache.Name}, node); err != nil {
		t.Fatal(err)
	}
	if uid := string(node.UID); cache.UID == old.UID || cache.Spec.NodeUID != uid || cache.Status.NodeUID != uid {
		t.Errorf("the object %s speaks of the nodes %s and %s, want a new one that speaks of %s",
			cache.UID, cache.Spec.NodeUID, cache.Status.NodeUID, uid)
	}
	return cache
}

func (w *world) cache(t *testing.T, node string) *v1alpha1.NodeImageCache {
	t.Helper()
	cache := cacheNamed(node)
	if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(cache), cache); err != nil {
		t.Fatal(err)
	}
	return cache
}

// cacheUID is empty while there is no object.
func (w *world) cacheUID(ctx context.Context, node string) types.UID {
	cache := cacheNamed(node)
	if err := w.client.Get(ctx, client.ObjectKeyFromObject(cache), cache); err != nil {
		return ""
	}
	return cache.UID
}

// TestFault12NodeLost loses the node that pulls while all others wait for its slot.
func TestFault12NodeLost(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "lost", 3)
	g.observe(t)
	warm := g.serve(t, 2*mib, 1, origin.File{})
	g.apply(t, "lost-warm", warm, nil)
	waitCondition(t, "lost-warm", v1alpha1.ConditionReady)

	f := g.serve(t, 32*mib, 2, origin.File{BytesPerSecond: mib / 4})
	g.apply(t, "lost", f, limit(1))
	eventually(t, "the first node pulls", func(context.Context) error { return atLeast(f, mib) })
	lost := g.named(t, suite.origin.Nodes(f.urlPath)[0])
	// A minute makes a node unavailable, by the manager's clock: what the Pod says of its own is another day.
	since := time.Now()
	if err := lost.Lose(since.Add(-24 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	suite.origin.Serve(f.urlPath, origin.File{Path: f.Path})
	within(t, 3*patience, "the others' turn", func(ctx context.Context) error { return g.ready(ctx, "lost", 2, f.digest) })
	image := waitCondition(t, "lost", v1alpha1.ConditionReady)
	if n := image.Status.Nodes; n.Desired != 3 || n.Ready != 2 || n.Unavailable != 1 {
		t.Errorf("counts %+v, want 2 ready nodes and one that is unavailable", n)
	}
	const trouble = "its agent's Pod is not ready since 20"
	if away := image.Status.Failures; len(away) != 1 || away[0].Node != lost.Name || away[0].Reason != v1alpha1.ReasonAgentUnavailable || !strings.HasPrefix(away[0].Message, trouble) {
		t.Errorf("the status names %+v, want the lost node and what is wrong with its Pod", away)
	}
	for _, request := range suite.origin.Requests(f.urlPath) {
		if early := since.Add(time.Minute).Sub(request.Start); request.Node != lost.Name && early > 0 {
			t.Errorf("%s began %s before the slot of the lost node was free", request.Node, early)
			break
		}
	}

	remove(t, "lost-warm") // does not wait for the lost node
	if got := blobs(t, lost); !slices.Equal(got, []string{warm.digest}) {
		t.Errorf("the lost node holds %q, want %s", got, warm.digest)
	}
	if err := lost.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is back", func(ctx context.Context) error { return g.ready(ctx, "lost", 3, f.digest) })
	eventually(t, "it drops what was deleted meanwhile", func(context.Context) error {
		if _, err := os.Stat(blobPath(lost.Store, warm.digest)); err == nil {
			return errors.New("the blob is still there")
		}
		return nil
	})
	g.requireOnly(t, f.digest)
	if links, err := os.ReadDir(filepath.Join(lost.Store, "images")); err != nil || len(links) != 1 {
		t.Errorf("the names on the node that came back are %v (%v), want one", links, err)
	}
}

func (g *group) named(t *testing.T, name string) *harness.Node {
	t.Helper()
	at := slices.IndexFunc(g.nodes, func(node *harness.Node) bool { return node.Name == name })
	if at < 0 {
		t.Fatalf("there is no node %q", name)
	}
	return g.nodes[at]
}
