package system

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestFault29WatchExpired changes images and nodes behind the back of everybody who watches, and lets all their versions expire.
func TestFault29WatchExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "expired")
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := w.newGroup(t, "expired", 2)
	g.observe(t)
	first, second := g.serve(t, 2*mib, 1, origin.File{}), g.serve(t, 2*mib, 2, origin.File{})
	g.apply(t, "expired-deleted", first, nil)
	g.apply(t, "expired-changed", first, nil)
	for _, name := range []string{"expired-deleted", "expired-changed"} {
		w.waitCondition(t, name, v1alpha1.ConditionReady)
	}
	if err := w.plane.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	config, stop, err := w.plane.OtherAPIServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unseen, err := client.NewWithWatch(config, client.Options{Scheme: w.client.Scheme()})
	if err == nil {
		behind := &group{world: &world{client: unseen}, name: g.name}
		behind.change(t, "expired-changed", second)
		image := &v1alpha1.CloudImage{}
		image.Name = "expired-deleted"
		err = unseen.Delete(t.Context(), image)
	}
	if err := errors.Join(err, stop(), w.plane.ExpireRevisions(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := w.plane.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, 3*patience, "what was changed and deleted behind everybody's back", func(ctx context.Context) error {
		image := &v1alpha1.CloudImage{}
		err := w.client.Get(ctx, client.ObjectKey{Name: "expired-deleted"}, image)
		if client.IgnoreNotFound(err) != nil || err == nil {
			return fmt.Errorf("the deleted image is still there: %w", err)
		}
		return g.ready(ctx, "expired-changed", 2, second.digest)
	})
	for _, node := range g.nodes {
		if got := blobs(t, node); !slices.Contains(got, second.digest) {
			t.Errorf("node %s holds %q, want %s", node.Name, got, second.digest)
		}
	}
}

// TestFault29ConflictsAndThrottling rolls out while somebody else keeps writing the same objects, and then while the API server
// turns most requests away.
func TestFault29ConflictsAndThrottling(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "crowded")
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := w.newGroup(t, "crowded", 3)
	g.observe(t)
	f := g.serve(t, 2*mib, 1, origin.File{})
	storm := inBackground(t, 2, func(ctx context.Context, i int) { w.touchEverything(ctx, i) })
	g.apply(t, "crowded-conflicts", f, limit(1))
	eventually(t, "the image, while others write", func(ctx context.Context) error {
		return g.ready(ctx, "crowded-conflicts", 3, f.digest)
	})
	within(t, 3*patience, "outdated orders", func(ctx context.Context) error { // a matter of luck, so it takes some rollouts
		if w.answered(t, `code="422"`, `resource="nodeimagecaches"`) > 0 {
			return nil
		}
		return errors.Join(errors.New("none yet"), w.rollOutAgain(ctx, "crowded-conflicts"))
	})
	eventually(t, "the image, after the last rollout", func(ctx context.Context) error {
		return g.ready(ctx, "crowded-conflicts", 3, f.digest)
	})
	storm()
	if most := suite.origin.MaxConcurrentNodes(f.urlPath); most > 1 {
		t.Errorf("%d nodes pulled at once, the limit is 1", most)
	}

	if err := w.plane.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	err := w.plane.StartAPIServer(t.Context(),
		"--enable-priority-and-fairness=false", "--max-requests-inflight=1", "--max-mutating-requests-inflight=1")
	if err != nil {
		t.Fatal(err)
	}
	greedy := clientOf(t, kubeconfigOf(g.nodes[0])) // administrators are never turned away
	crowd := inBackground(t, 8, func(ctx context.Context, _ int) {
		_ = greedy.List(ctx, &v1alpha1.NodeImageCacheList{}) // most are refused; that is the point
	})
	second := g.serve(t, 2*mib, 2, origin.File{})
	g.apply(t, "crowded-throttled", second, limit(1))
	within(t, 3*patience, "the image, while most requests are turned away", func(ctx context.Context) error {
		return g.ready(ctx, "crowded-throttled", 3, second.digest)
	})
	crowd()
	if refused := w.answered(t, `code="429"`); refused == 0 {
		t.Error("no request was turned away: the test has tested nothing")
	}
	if most := suite.origin.MaxConcurrentNodes(second.urlPath); most > 1 {
		t.Errorf("%d nodes pulled at once, the limit is 1", most)
	}
}

// touchEverything writes an annotation to every image, and other orders to every node, as a leader does that was paused.
func (w *world) touchEverything(ctx context.Context, round int) {
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"test.cloudimage.dev/round":"%d"}}}`, round))
	orders := client.RawPatch(types.JSONPatchType, fmt.Appendf(nil, `[{"op":"replace","path":"/spec/images/0/download/connections","value":%d}]`, 2+round%7))
	var images v1alpha1.CloudImageList
	var caches v1alpha1.NodeImageCacheList
	// Errors are of objects that have gone, or of the end of the test.
	_, _ = w.client.List(ctx, &images), w.client.List(ctx, &caches)
	for i := range images.Items {
		_ = w.client.Patch(ctx, &images.Items[i], patch)
	}
	for i := range caches.Items {
		if len(caches.Items[i].Spec.Images) > 0 { // or this patch would be refused, and counted for the manager's
			_ = w.client.Patch(ctx, &caches.Items[i], orders)
		}
	}
}

// rollOutAgain asks for a new revision of the same spec.
func (w *world) rollOutAgain(ctx context.Context, name string) error {
	image := &v1alpha1.CloudImage{}
	image.Name = name
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.RequestedAtAnnotation, time.Now().Format(time.RFC3339Nano))
	return w.client.Patch(ctx, image, client.RawPatch(types.MergePatchType, patch))
}

func kubeconfigOf(node *harness.Node) string {
	return filepath.Join(filepath.Dir(node.Store), "kubeconfig")
}
