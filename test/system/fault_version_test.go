package system

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestFault23OtherVersions installs the API of a later version, and then plays the manager of that version beside this agent, and
// its agent beside this manager.
func TestFault23OtherVersions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "versions")
	w.installLaterAPI(t)
	g := w.newGroup(t, "versions", 1)
	g.observe(t)
	f := g.serve(t, 4*mib, 1, origin.File{})
	order := func(name, action string, more map[string]any) map[string]any {
		o := map[string]any{
			"name": name, "revision": "r1", "action": action, "priority": int64(7), "digest": f.digest, "format": "Auto", "maxSize": "1Gi",
			"source": map[string]any{"http": map[string]any{"url": suite.origin.URL + f.urlPath, "mirrors": []any{"https://example.com"}}},
		}
		maps.Copy(o, more)
		return o
	}
	other := "sha256:" + strings.Repeat("1", 64)
	w.writeOrders(t, g.nodes[0],
		order("format", "Pull", map[string]any{"format": "Vhdx", "digest": other}),
		order("known", "Pull", nil),
		order("source", "Pull", map[string]any{"digest": other, "source": map[string]any{"oci": map[string]any{"reference": "r"}}}),
		order("unheard-of", "Prefetch", map[string]any{"digest": other}),
	)
	w.waitReports(t, g.nodes[0], "format Failed InvalidSource, known Ready, source Failed InvalidSource, unheard-of Pending")
	g.requireOnly(t, f.digest)
	before := g.inodes(t)

	w.writeOrders(t, g.nodes[0], order("known", "Prefetch", nil)) // an action that this agent does not know deletes nothing
	w.waitReports(t, g.nodes[0], "known Ready")
	g.requireSameFiles(t, before)
	if starts := g.nodes[0].Starts(); starts != 1 {
		t.Errorf("the agent was started %d times", starts)
	}

	w.besideLaterAgent(t, f)
	g.requireSameFiles(t, before)
}

// besideLaterAgent starts this manager and reports as a later version's agent would.
func (w *world) besideLaterAgent(t *testing.T, f *file) {
	t.Helper()
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := w.newGroup(t, "versions-later", 1)
	node := g.nodes[0]
	if err := node.Stop(); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name = harness.Namespace, "cloudimage-node-agent-"+node.Name
	ready := client.RawPatch(types.StrategicMergePatchType, []byte(`{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`))
	if err := w.client.Status().Patch(t.Context(), pod, ready); err != nil {
		t.Fatal(err)
	}
	g.apply(t, "versions", f, nil)
	eventually(t, "an order to pull", func(ctx context.Context) error {
		cache := cacheNamed(node.Name)
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(cache), cache); err != nil {
			return err
		}
		if orders := cache.Spec.Images; len(orders) != 1 || orders[0].Action != v1alpha1.ActionPull {
			return fmt.Errorf("orders are %+v", orders)
		}
		return nil
	})
	for _, step := range []struct {
		name   string
		report map[string]any
		want   v1alpha1.NodeCounts
		reason string // of Ready
	}{
		{"a state", map[string]any{"state": "Verifying", "hurry": int64(1)}, v1alpha1.NodeCounts{Desired: 1, Pending: 1}, v1alpha1.ReasonWarming},
		{"a reason", map[string]any{"state": "Failed", "reason": "MirrorBroken", "message": "m"},
			v1alpha1.NodeCounts{Desired: 1, Failed: 1}, v1alpha1.ReasonWarming}, // not Stalled: it may try again
		{"a format", map[string]any{"state": "Ready", "digest": f.digest, "format": "Vhdx", "sizeBytes": f.size},
			v1alpha1.NodeCounts{Desired: 1, Ready: 1}, v1alpha1.ReasonWarmed},
	} {
		w.reportAs(t, node, step.report)
		eventually(t, step.name+" that this manager does not know", func(ctx context.Context) error {
			image := &v1alpha1.CloudImage{}
			if err := w.client.Get(ctx, client.ObjectKey{Name: "versions"}, image); err != nil {
				return err
			}
			got := ""
			for _, condition := range image.Status.Conditions {
				if condition.Type == v1alpha1.ConditionReady {
					got = condition.Reason
				}
			}
			if image.Status.Nodes != step.want || got != step.reason {
				return fmt.Errorf("status %+v, want counts %+v and %s", image.Status, step.want, step.reason)
			}
			return nil
		})
	}
	// Its agent comes back as this version, finds no such bytes on the disk and fetches them.
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bytes that were only said to be there", func(context.Context) error {
		_, err := os.Stat(blobPath(node.Store, f.digest))
		return err
	})
	eventually(t, "the image", func(ctx context.Context) error { return w.ready(ctx, "versions", 1, f.digest) })
	g.requireOnly(t, f.digest)
}

// installLaterAPI adds fields and values that this version does not know.
func (w *world) installLaterAPI(t *testing.T) {
	t.Helper()
	const (
		root    = "/spec/versions/0/schema/openAPIV3Schema/properties/"
		orders  = root + "spec/properties/images/items/properties/"
		reports = root + "status/properties/images/items/properties/"
	)
	number, text := map[string]any{"type": "integer"}, map[string]any{"type": "string"}
	for crd, changes := range map[string]map[string]any{
		"nodeimagecaches": {
			orders + "action/enum/-": "Prefetch", orders + "format/enum/-": "Vhdx", orders + "priority": number,
			orders + "source/properties/oci":                     map[string]any{"type": "object", "properties": map[string]any{"reference": text}},
			orders + "source/properties/http/properties/mirrors": map[string]any{"type": "array", "items": text},
			reports + "state/enum/-":                             "Verifying", reports + "format/enum/-": "Vhdx", reports + "hurry": number,
		},
		"cloudimages": {root + "status/properties/format/enum/-": "Vhdx"},
	} {
		var patch []map[string]any
		for path, value := range changes {
			patch = append(patch, map[string]any{"op": "add", "path": path, "value": value})
		}
		text, err := json.Marshal(patch)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.cluster.Kubectl(t.Context(), nil, "patch", "crd", crd+".prefetch.cloudimage.dev", "--type=json", "-p", string(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// writeOrders writes what a manager of the later version would, until the API server serves that version.
func (w *world) writeOrders(t *testing.T, node *harness.Node, orders ...any) {
	t.Helper()
	eventually(t, "the orders of "+node.Name, func(ctx context.Context) error {
		object := &corev1.Node{}
		if err := w.client.Get(ctx, client.ObjectKey{Name: node.Name}, object); err != nil {
			return err
		}
		cache := &unstructured.Unstructured{Object: map[string]any{
			"spec": map[string]any{"nodeUID": string(object.UID), "images": orders},
		}}
		cache.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("NodeImageCache"))
		cache.SetName(node.Name)
		err := w.client.Patch(ctx, cache, client.Apply, client.FieldOwner("later-manager"), client.ForceOwnership) //nolint:staticcheck // of an object without a Go type
		if err != nil {
			return err
		}
		kept, _, err := unstructured.NestedSlice(cache.Object, "spec", "images")
		if first, ok := kept[0].(map[string]any); err != nil || !ok || first["priority"] == nil {
			return fmt.Errorf("the API server dropped a field of the later version: %v (%w)", kept, err)
		}
		return nil
	})
}

// waitReports waits until a node's report reads like this.
func (w *world) waitReports(t *testing.T, node *harness.Node, want string) {
	t.Helper()
	eventually(t, "the report of "+node.Name, func(ctx context.Context) error {
		cache := cacheNamed(node.Name)
		if err := w.client.Get(ctx, client.ObjectKeyFromObject(cache), cache); err != nil {
			return err
		}
		var parts []string
		for _, image := range cache.Status.Images {
			parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s %s", image.Name, image.State, image.Reason)))
		}
		if got := strings.Join(parts, ", "); got != want {
			return fmt.Errorf("it is %q, want %q", got, want)
		}
		return nil
	})
}

// reportAs writes a report on the only order of a node.
func (w *world) reportAs(t *testing.T, node *harness.Node, report map[string]any) {
	t.Helper()
	cache := w.cache(t, node.Name)
	report["name"], report["revision"] = cache.Spec.Images[0].Name, cache.Spec.Images[0].Revision
	patch, err := json.Marshal(map[string]any{"status": map[string]any{
		"nodeUID": cache.Spec.NodeUID, "observedGeneration": cache.Generation, "agentVersion": "v99", "images": []any{report},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.client.Status().Patch(t.Context(), cacheNamed(node.Name), client.RawPatch(types.MergePatchType, patch)); err != nil {
		t.Fatal(err)
	}
}
