package controller

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// actions are the orders for an image as "node action", with a star where they
// are of the image's current revision.
func (w *world) actions(image *v1alpha1.CloudImage) []string {
	var lines []string
	for name, cache := range w.s.Caches {
		for _, order := range cache.Spec.Images { // all, so that two of one name show
			if order.Name != image.Name {
				continue
			}
			current := ""
			if order.Revision == revisionOf(image) {
				current = "*"
			}
			lines = append(lines, fmt.Sprintf("%s %s%s", name, order.Action, current))
		}
	}
	slices.Sort(lines)
	return lines
}

func pulling(s *v1alpha1.ImageStatus) { s.State, s.Attempts, s.Reason = v1alpha1.StatePulling, 1, "" }

func TestSelectorChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.s.Nodes[0].Labels, w.s.Nodes[1].Labels = map[string]string{"pool": "a"}, map[string]string{"pool": "b"}
	selects := func(pool string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"pool": pool}}
	}
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.NodeSelector = selects("a") })
	w.settle()
	w.report("node-000", "debian", ready(digestA))
	w.settle()
	revision := image.Status.Revision
	image.Spec.NodeSelector = selects("b")
	image.Generation++
	w.settle()
	// The entry goes without an order to remove: the blob stays, unreferenced.
	if diff := cmp.Diff([]string{"node-001 Pull*"}, w.actions(image)); diff != "" {
		t.Error(diff)
	}
	if image.Status.Revision != revision || image.Status.Nodes != (v1alpha1.NodeCounts{Desired: 1, Pending: 1}) {
		t.Errorf("status %+v", image.Status)
	}
	w.drop("node-000", "debian")
	w.report("node-001", "debian", ready(digestA))
	image.Spec.NodeSelector = nil
	image.Generation++
	w.settle()
	if diff := cmp.Diff([]string{"node-000 Pull*", "node-001 Pull*"}, w.actions(image)); diff != "" {
		t.Error(diff)
	}
}

func TestSuspendInMidPull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	two := intstr.FromInt32(2)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &two })
	w.settle()
	granted := w.granted("debian")
	w.report(granted[0], "debian", pulling)
	w.report(granted[1], "debian", ready(digestA))
	w.settle()
	before := w.granted("debian")
	image.Spec.Suspend = true
	image.Generation++
	w.settle()
	if got := w.granted("debian"); len(got) != 0 {
		t.Errorf("%v pull while the image is suspended", got)
	}
	w.report(granted[0], "debian", func(s *v1alpha1.ImageStatus) { s.State = v1alpha1.StatePending })
	image.Spec.Suspend = false
	image.Generation++
	w.settle()
	if diff := cmp.Diff(before, w.granted("debian")); diff != "" {
		t.Errorf("after the pause others pull: %s", diff)
	}
	if image.Status.Nodes.Ready != 1 {
		t.Errorf("what was ready is not counted: %+v", image.Status.Nodes)
	}
}

func TestSpecChangeInMidPull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	two := intstr.FromInt32(2)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &two })
	w.settle()
	old := revisionOf(image)
	granted := w.granted("debian")
	w.report(granted[0], "debian", ready(digestA))
	w.report(granted[1], "debian", pulling)
	w.settle()
	image.Spec.Digest = digestB
	image.Generation++
	// No entry goes away, not even for one pass, and none becomes Remove: the old
	// blob stays until the new one is verified.
	w.pass()
	if actions := w.actions(image); len(actions) != 4 {
		t.Fatalf("orders right after the change: %v", actions)
	}
	w.settle()
	actions := w.actions(image)
	if len(actions) != 4 || len(w.granted("debian")) != 2 || slices.ContainsFunc(actions, func(s string) bool { return s[len(s)-1] != '*' }) {
		t.Fatalf("orders after the change: %v", actions)
	}
	// A report that speaks of the old revision, and was on its way, changes nothing.
	for _, node := range w.s.Nodes {
		w.report(node.Name, "debian", func(s *v1alpha1.ImageStatus) { ready(digestA)(s); s.Revision = old })
	}
	w.settle()
	if image.Status.Nodes.Ready != 0 || image.Status.Digest != digestB || isTrue(image.Status.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("the old revision's Ready counts: %+v", image.Status)
	}
	for range 2 {
		for _, node := range w.granted("debian") {
			w.report(node, "debian", ready(digestB))
		}
		w.settle()
	}
	if image.Status.Nodes.Ready != 4 {
		t.Errorf("nodes %+v", image.Status.Nodes)
	}
}

// TestNewSourceWithoutADigest: what nodes hold of the old source says nothing about the new one.
func TestNewSourceWithoutADigest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	w.settle()
	w.report(w.granted("debian")[0], "debian", ready(digestA))
	w.warm()
	if image.Status.Nodes.Ready != 2 {
		t.Fatalf("status %+v", image.Status)
	}
	image.Spec.Source.HTTP.URL += "-12"
	image.Generation++
	w.settle()
	if image.Status.Nodes.Ready != 0 || image.Status.Digest != "" || len(w.granted("debian")) != 1 {
		t.Fatalf("%v pull the new image; status %+v", w.granted("debian"), image.Status)
	}
	w.report(w.granted("debian")[0], "debian", ready(digestB))
	w.settle()
	if image.Status.Digest != digestB {
		t.Errorf("the pinned digest is %q", image.Status.Digest)
	}
}

func TestDeletionInMidPull(t *testing.T) {
	t.Parallel()
	for policy, want := range map[v1alpha1.DeletionPolicy][]string{
		v1alpha1.DeletionDelete: {"node-000 Remove*", "node-001 Remove*"},
		v1alpha1.DeletionRetain: nil,
	} {
		for _, suspended := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, suspended %v", policy, suspended), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, 2)
				image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.DeletionPolicy, i.Spec.Suspend = policy, suspended })
				w.settle()
				w.report("node-000", "debian", pulling)
				image.DeletionTimestamp = &metav1.Time{Time: w.now}
				w.settle()
				if diff := cmp.Diff(want, w.actions(image)); diff != "" {
					t.Error(diff)
				}
				if (len(w.s.Images) == 0) != (want == nil) {
					t.Errorf("the image is gone: %v", len(w.s.Images) == 0)
				}
				for _, node := range w.s.Nodes {
					w.drop(node.Name, "debian")
				}
				w.settle()
				if len(w.s.Images) != 0 || len(w.actions(image)) != 0 {
					t.Errorf("%d images and the orders %v are left", len(w.s.Images), w.actions(image))
				}
			})
		}
	}
}

// TestDeletedAndMadeAgain: a node that was away, and never heard of the deletion, holds the new image, too.
func TestDeletedAndMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	image := w.apply("debian", nil)
	w.warm()
	w.s.Nodes[0].AgentReady = false
	w.settle()
	w.now = w.now.Add(unavailableAfter)
	image.DeletionTimestamp = &metav1.Time{Time: w.now}
	w.settle() // the node is away: it keeps the order
	again := w.apply("debian", nil)
	w.s.Nodes[0].AgentReady = true
	w.settle()
	if diff := cmp.Diff([]string{"node-000 Hold*"}, w.actions(again)); diff != "" || again.Status.Nodes.Ready != 1 {
		t.Error(diff)
	}
}

// TestAdoptionOfALostDigest goes on to the grants after the pin is written again.
func TestAdoptionOfALostDigest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	w.settle()
	first := w.granted("debian")[0]
	w.report(first, "debian", ready(digestB))
	w.settle()
	image.Status = v1alpha1.CloudImageStatus{ObservedGeneration: -1} // etcd came back without it
	w.pass()
	if got := image.Status.Digest; got != digestB {
		t.Fatalf("adopted %q, want %q", got, digestB)
	}
	w.settle()
	for _, node := range w.s.Nodes {
		if order := orderIn(w.s.Caches[node.Name], "debian"); order.Digest != digestB || order.Action != v1alpha1.ActionPull {
			t.Errorf("%s is ordered %+v", node.Name, order)
		}
	}
}

// TestSuspendForgetsNoFailure: an image whose rollout was stopped by what its bytes are is not tried on other nodes because it was suspended.
func TestSuspendForgetsNoFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 30)
	image := w.apply("debian", nil)
	w.settle()
	for _, node := range w.granted("debian") {
		w.report(node, "debian", failed(v1alpha1.ReasonDigestMismatch))
	}
	w.settle()
	stopped := readyOf(&image.Status)
	for _, suspend := range []bool{true, false} {
		image.Spec.Suspend = suspend
		image.Generation++
		w.settle()
	}
	for _, node := range w.granted("debian") {
		if statusIn(w.s.Caches[node], "debian") == nil {
			t.Errorf("%s is to pull", node)
		}
	}
	if again := readyOf(&image.Status); again.Reason != stopped.Reason || again.Message != stopped.Message {
		t.Errorf("the image was %+v, and after the pause is %+v", stopped, again)
	}
}
