package controller

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// limited is a world in which one image may be pulled by so many nodes at once.
func limited(t *testing.T, nodes int, atOnce int32) (*world, *v1alpha1.CloudImage) {
	t.Helper()
	w := newWorld(t, nodes)
	limit := intstr.FromInt32(atOnce)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &limit })
	w.settle()
	return w, image
}

func (w *world) nodeNamed(name string) *Node {
	for i := range w.s.Nodes {
		if w.s.Nodes[i].Name == name {
			return &w.s.Nodes[i]
		}
	}
	w.t.Fatalf("no node %s", name)
	return nil
}

// TestLostNodeAndItsSuccessorDoNotOverlap: the agent of a lost node may be back before it sees the order to hold.
func TestLostNodeAndItsSuccessorDoNotOverlap(t *testing.T) {
	t.Parallel()
	w, _ := limited(t, 3, 1)
	lost := w.granted("debian")[0]
	w.report(lost, "debian", pulling)
	w.settle()
	w.nodeNamed(lost).AgentReady = false
	w.pass()
	w.now = w.now.Add(unavailableAfter)
	w.pass()
	if got := w.granted("debian"); len(got) != 0 {
		t.Errorf("%v pull in the pass that takes the slot back from %s", got, lost)
	}
	w.settle()
	if got := w.granted("debian"); len(got) != 1 || got[0] == lost {
		t.Errorf("%v pull after that, want another node than %s", got, lost)
	}
}

// TestRevisionsShareTheSlots: what still pulls the revision before counts, until it has other orders.
func TestRevisionsShareTheSlots(t *testing.T) {
	t.Parallel()
	w, image := limited(t, 4, 1)
	first := w.granted("debian")[0]
	w.report(first, "debian", ready(digestA))
	w.settle()
	second := w.granted("debian")[0]
	w.report(second, "debian", pulling)
	w.settle()
	image.Spec.Digest = digestB
	image.Generation++
	w.pass()
	if diff := cmp.Diff([]string{second}, w.granted("debian")); diff != "" {
		t.Errorf("nodes that pull after the edit: %s", diff)
	}
	w.settle()
	if diff := cmp.Diff([]string{second}, w.granted("debian")); diff != "" {
		t.Errorf("nodes that pull in the end: %s", diff)
	}
}

// TestEditOfARolloutThatIsWide: a limit that shrinks with the revision lets the others end first.
func TestEditOfARolloutThatIsWide(t *testing.T) {
	t.Parallel()
	w, image := limited(t, 6, 4)
	for _, node := range w.granted("debian") {
		w.report(node, "debian", pulling)
	}
	w.settle()
	two := intstr.FromInt32(2)
	image.Spec.Digest, image.Spec.Rollout.MaxConcurrentNodes = digestB, &two
	image.Generation++
	for range 3 {
		w.pass()
		if got := w.granted("debian"); len(got) != 2 {
			t.Fatalf("%v pull, want two", got)
		}
	}
}

// TestNodeOnItsWayOutKeepsItsSlot: its agent pulls until the node is gone.
func TestNodeOnItsWayOutKeepsItsSlot(t *testing.T) {
	t.Parallel()
	w, image := limited(t, 3, 1)
	leaving := w.granted("debian")[0]
	w.report(leaving, "debian", pulling)
	w.settle()
	w.nodeNamed(leaving).Deleting = true
	w.settle()
	if diff := cmp.Diff([]string{leaving}, w.granted("debian")); diff != "" || image.Status.Nodes.Desired != 2 {
		t.Errorf("nodes that pull: %s; status %+v", diff, image.Status.Nodes)
	}
	w.now = w.now.Add(stalledAfter)
	w.settle()
	if got := w.granted("debian"); len(got) != 2 {
		t.Errorf("%v, want a successor of the node that gets no further", got)
	}
}

// TestLostFinalizerKeepsTheOrders: an uninstall ends the finalizers, and `kubectl replace` drops them.
func TestLostFinalizerKeepsTheOrders(t *testing.T) {
	t.Parallel()
	w, image := limited(t, 2, 2)
	w.report("node-000", "debian", ready(digestA))
	w.settle()
	image.Finalizers = nil
	w.pass()
	if len(w.plan.AddFinalizer) != 1 || len(w.plan.Update) != 0 {
		t.Errorf("finalizers to add: %d, orders that change: %+v", len(w.plan.AddFinalizer), w.plan.Update)
	}
}

// TestRemovalIsWrittenBeforeTheFinalizerEnds, also for nodes that nobody waits for: they carry it out when they are back.
func TestRemovalIsWrittenBeforeTheFinalizerEnds(t *testing.T) {
	t.Parallel()
	w, image := limited(t, 1, 1)
	w.report("node-000", "debian", ready(digestA))
	w.settle()
	w.nodeNamed("node-000").AgentReady = false
	w.pass()
	w.now = w.now.Add(unavailableAfter)
	w.settle()
	image.DeletionTimestamp = &metav1.Time{Time: w.now}
	w.apply("young", func(i *v1alpha1.CloudImage) { i.Finalizers = nil }) // nothing new is removed in this pass
	w.pass()
	if len(w.plan.DropFinalizer) != 0 {
		t.Error("the finalizer ended before the order to remove was written")
	}
	if !w.plan.Next.Equal(w.now.Add(youngFor)) {
		t.Errorf("the next pass is at %s, now is %s", w.plan.Next, w.now)
	}
	w.now = w.now.Add(youngFor) // the API server refuses its finalizer, say by a webhook
	w.settle()
	if order := orderIn(w.s.Caches["node-000"], "debian"); len(w.s.Images) != 1 || order == nil || order.Action != v1alpha1.ActionRemove {
		t.Errorf("%d images are left, and the order is %+v", len(w.s.Images), order)
	}
}

// TestClocksOfNodesDoNotMatter: a blip of an agent is no absence of a minute, whatever its node's clock says.
func TestClocksOfNodesDoNotMatter(t *testing.T) {
	t.Parallel()
	w, _ := limited(t, 1, 1)
	w.now = w.now.Add(time.Second)
	node := w.nodeNamed("node-000")
	node.AgentReady, node.NotReadySince = false, w.now.Add(-24*time.Hour)
	w.pass()
	if at, away := w.memory.unavailableAt("node-000"); !away || !at.After(w.now) {
		t.Errorf("unavailable at %s, now is %s", at, w.now)
	}
	restarted := Memory{}.Observe(w.s, w.now) // knows no better
	if at, _ := restarted.unavailableAt("node-000"); at.After(w.now) {
		t.Errorf("after a restart unavailable at %s, now is %s", at, w.now)
	}
}

// TestWaitingProberLetsOthersTry: a full disk must not keep an image from healing.
func TestWaitingProberLetsOthersTry(t *testing.T) {
	t.Parallel()
	for _, nodes := range []int{6, 1} {
		w, image := broken(t, nodes, v1alpha1.ReasonNotFound)
		w.now = w.now.Add(probeEvery)
		w.settle()
		prober := w.retrying("debian")[0]
		w.report(prober, "debian", failed(v1alpha1.ReasonInsufficientSpace))
		w.now = w.now.Add(probeEvery)
		w.settle()
		if got := w.retrying("debian"); len(got) != min(1, nodes-1) {
			t.Errorf("of %d nodes %v try again beside %s", nodes, got, prober)
		}
		w.report(prober, "debian", ready(digestA)) // there is room
		w.settle()
		if image.Status.Nodes.Ready != 1 || isTrue(image.Status.Conditions, v1alpha1.ConditionStalled) {
			t.Errorf("of %d nodes: %+v", nodes, image.Status)
		}
	}
}

// TestProberThatStallsFreesNobody: only a success lets others begin again.
func TestProberThatStallsFreesNobody(t *testing.T) {
	t.Parallel()
	w, image := broken(t, 6, v1alpha1.ReasonForbidden)
	tried := map[string]bool{}
	for range 4 {
		w.now = w.now.Add(probeEvery)
		w.settle()
		nodes := w.retrying("debian")
		if len(nodes) != 1 {
			t.Fatalf("%v try again, want one node", nodes)
		}
		tried[nodes[0]] = true
		w.report(nodes[0], "debian", failed(v1alpha1.ReasonSourceUnavailable))
		w.settle()
		w.now = w.now.Add(stalledAfter)
		w.settle()
		if got := w.granted("debian"); len(got) > 3 || !isTrue(image.Status.Conditions, v1alpha1.ConditionStalled) {
			t.Fatalf("after a try that stalled %v pull; conditions %+v", got, image.Status.Conditions)
		}
		if image.Status.Nodes.Pending != 3 {
			t.Fatalf("nodes that never began were let begin: %+v", image.Status.Nodes)
		}
	}
	if len(tried) != 3 {
		t.Errorf("%v tried, want the three that failed in turns", tried)
	}
}

// TestOtherBytesThanTheAdoptedDigest are not ready in the pass that adopts it either.
func TestOtherBytesThanTheAdoptedDigest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	w.settle()
	for i, digest := range []string{digestA, digestB, digestB} {
		w.report(w.s.Nodes[i].Name, "debian", ready(digest))
	}
	for range 3 {
		w.pass()
		if image.Status.Nodes.Ready != 2 || isTrue(image.Status.Conditions, v1alpha1.ConditionReady) {
			t.Errorf("two nodes hold one digest and one another: %+v", image.Status)
		}
	}
}

// TestWaitingProberYieldsTheOnlySlot, in a rollout that too many failures stopped.
func TestWaitingProberYieldsTheOnlySlot(t *testing.T) {
	t.Parallel()
	w, _ := limited(t, 5, 1)
	ended := map[string]bool{}
	for range breakerFailures {
		for _, node := range w.granted("debian") {
			if !ended[node] {
				ended[node] = true
				w.report(node, "debian", failed(v1alpha1.ReasonForbidden))
			}
		}
		w.settle()
	}
	w.now = w.now.Add(probeEvery)
	w.settle()
	prober := w.retrying("debian")[0]
	w.report(prober, "debian", failed(v1alpha1.ReasonInsufficientSpace))
	w.now = w.now.Add(probeEvery)
	w.settle()
	if got := w.retrying("debian"); len(got) != 1 || got[0] == prober {
		t.Errorf("%v try again, want another node than %s", got, prober)
	}
}
