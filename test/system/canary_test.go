package system

import (
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestCanary does what config/samples/canary.yaml says, and waits with kubectl as a pipeline does. The second time nobody is there to
// see the edit: the manager that comes after it has the status alone.
func TestCanary(t *testing.T) {
	t.Parallel()
	const name = "appliance-next" // as in the sample
	sample, err := os.ReadFile("../../config/samples/canary.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "canary")
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := w.newGroup(t, "canary", 3)
	for i, node := range g.nodes[:2] {
		object := &corev1.Node{}
		object.Name = node.Name
		label := fmt.Sprintf(`{"metadata":{"labels":{"example.com/canary":"true","example.com/first":"%t"}}}`, i == 0)
		if err := w.client.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(label))); err != nil {
			t.Fatal(err)
		}
	}
	f := g.serve(t, 4*mib, 1, origin.File{BytesPerSecond: 4 * mib})
	manifest := strings.NewReplacer(
		"https://images.example.com/appliance/2.0.0.qcow2", suite.origin.URL+f.urlPath,
		"sha256:"+strings.Repeat("0", 64), f.digest,
		"matchLabels:", "matchLabels:\n      example.com/first: \"true\"",
	).Replace(string(sample))
	if out, err := w.cluster.Kubectl(t.Context(), strings.NewReader(manifest), "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatal(err, out)
	}
	warm := func(want int32) {
		t.Helper()
		if out, err := w.cluster.Kubectl(t.Context(), nil, "wait", "--for=condition=Ready", "--timeout=2m", "cimg/"+name); err != nil {
			g.explain(t)
			t.Fatal(err, out)
		}
		image := &v1alpha1.CloudImage{}
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: name}, image); err != nil {
			t.Fatal(err)
		}
		if n := image.Status.Nodes; n.Ready != want || n.Desired != want {
			t.Errorf("kubectl wait returned with %+v, want %d nodes ready: %+v", n, want, image.Status)
		}
	}
	edit := func(patch string) {
		t.Helper()
		if out, err := w.cluster.Kubectl(t.Context(), nil, "patch", "cimg", name, "--type=json", "--patch="+patch); err != nil {
			t.Fatal(err, out)
		}
	}
	warm(1)
	edit(`[{"op":"remove","path":"/spec/nodeSelector/matchLabels/example.com~1first"}]`)
	warm(2)
	manager := w.cluster.Manager()
	if err := manager.Stop(); err != nil {
		t.Fatal(err)
	}
	edit(`[{"op":"remove","path":"/spec/nodeSelector"}]`)
	if err := manager.Start(); err != nil {
		t.Fatal(err)
	}
	warm(3)
	g.requireOnly(t, f.digest)
}
