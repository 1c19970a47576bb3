package controller

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

func TestRevisionOnlyChangesWithWhatIsRolledOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	base := revisionOf(w.apply("debian", nil))
	for name, tt := range map[string]struct {
		edit func(*v1alpha1.CloudImage)
		same bool
	}{
		"nothing":      {func(*v1alpha1.CloudImage) {}, true},
		"selector":     {func(i *v1alpha1.CloudImage) { i.Spec.NodeSelector = &metav1.LabelSelector{} }, true},
		"suspend":      {func(i *v1alpha1.CloudImage) { i.Spec.Suspend = true }, true},
		"connections":  {func(i *v1alpha1.CloudImage) { i.Spec.Download.Connections = 3 }, true},
		"url":          {func(i *v1alpha1.CloudImage) { i.Spec.Source.HTTP.URL += "2" }, false},
		"digest":       {func(i *v1alpha1.CloudImage) { i.Spec.Digest = digestB }, false},
		"format":       {func(i *v1alpha1.CloudImage) { i.Spec.Format = v1alpha1.FormatRaw }, false},
		"requested-at": {func(i *v1alpha1.CloudImage) { i.Annotations = map[string]string{v1alpha1.RequestedAtAnnotation: "now"} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := revisionOf(newWorld(t, 0).apply("debian", tt.edit)); (got == base) != tt.same {
				t.Errorf("revision %s, before %s; want the same: %v", got, base, tt.same)
			}
		})
	}
}

func TestRolloutNeverExceedsItsLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit intstr.IntOrString
		want  int
	}{
		{intstr.FromInt32(1), 1}, {intstr.FromInt32(7), 7}, {intstr.FromString("10%"), 3}, {intstr.FromString("1%"), 1}, {intstr.FromInt32(500), 23},
	} {
		t.Run(tt.limit.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 23)
			image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &tt.limit })
			random := rand.New(rand.NewPCG(1, 2))
			w.settle()
			if got := len(w.granted("debian")); got != tt.want {
				t.Fatalf("%d nodes granted at first, want %d", got, tt.want)
			}
			for step := 0; image.Status.Nodes.Ready < 23; step++ {
				if step > 200 {
					t.Fatalf("not warm after %d steps: %+v", step, image.Status.Nodes)
				}
				granted := w.granted("debian")
				w.report(granted[random.IntN(len(granted))], "debian", ready(digestA))
				if step%5 == 4 {
					w.memory = Memory{} // the manager was restarted
				}
				w.settle()
				if got := len(w.granted("debian")); got > tt.want {
					t.Fatalf("%d nodes granted, limit %d", got, tt.want)
				}
			}
			if !isTrue(image.Status.Conditions, v1alpha1.ConditionReady) || image.Status.Throughput != "400 MiB/s" {
				t.Errorf("status at the end: %+v", image.Status)
			}
		})
	}
}

// TestImagesShareTheNodes: an agent pulls few images at a time, so slots of many images on one node would wait there.
func TestImagesShareTheNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 10)
	limit := intstr.FromInt32(2)
	images := []string{"a", "b", "c", "d", "e"}
	for _, name := range images {
		w.apply(name, func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &limit })
	}
	w.settle()
	first := map[string]int{}
	for _, name := range images {
		for _, node := range w.granted(name) {
			first[node]++
		}
	}
	if len(first) != 10 {
		t.Fatalf("slots of each node: %v, want one on each of 10", first)
	}
	done := w.granted("a")[0]
	w.report(done, "a", ready(digestA))
	w.settle()
	for _, name := range images {
		for _, node := range w.granted(name) {
			first[node]--
		}
	}
	if first[done] != 1 {
		t.Errorf("%s, which is done, was granted an image that has no slot free", done)
	}
	delete(first, done)
	taken := 0
	for _, change := range first {
		taken -= change
	}
	if taken != 1 {
		t.Errorf("%d further slots were granted, want the one that was given back", taken)
	}
}

func TestEverySelectedImageIsListedFromTheFirstWrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.s.Nodes[0].Labels = map[string]string{"disk": "fast"}
	one := intstr.FromInt32(1)
	w.apply("a", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &one })
	w.apply("b", func(i *v1alpha1.CloudImage) {
		i.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": "fast"}}
	})
	w.settle()
	got := map[string]int{}
	for node, cache := range w.s.Caches {
		for _, order := range cache.Spec.Images {
			got[fmt.Sprintf("%s %s", order.Name, order.Action)]++
			if order.Name == "b" && node != "node-000" {
				t.Errorf("%s was ordered on %s, which it does not select", order.Name, node)
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"a Pull": 1, "a Hold": 2, "b Pull": 1}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFirstNodePinsTheDigest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 5)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	w.settle()
	first := w.granted("debian")
	if len(first) != 1 {
		t.Fatalf("%d nodes pull before the digest is known, want 1", len(first))
	}
	w.report(first[0], "debian", ready(digestB))
	w.pass()
	if image.Status.Digest != digestB {
		t.Fatalf("digest %q was pinned, want %q", image.Status.Digest, digestB)
	}
	if got := w.granted("debian"); len(got) != 0 {
		t.Fatalf("%v were granted in the pass that pins", got)
	}
	w.settle()
	if got := w.granted("debian"); len(got) != 4 {
		t.Fatalf("%v were granted after the pin, want the other 4", got)
	}
	for _, node := range w.granted("debian") {
		if got := orderIn(w.s.Caches[node], "debian").Digest; got != digestB {
			t.Errorf("%s is ordered digest %q", node, got)
		}
		w.report(node, "debian", ready(digestB))
	}
	w.settle()
	if image.Status.Nodes.Ready != 5 {
		t.Errorf("nodes: %+v", image.Status.Nodes)
	}
}

func TestLostPinIsAdoptedFromMostNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	w.settle()
	w.report("node-000", "debian", ready(digestB))
	w.report("node-001", "debian", ready(digestA))
	w.report("node-002", "debian", ready(digestB))
	image.Status = v1alpha1.CloudImageStatus{ObservedGeneration: -1}
	w.pass()
	if image.Status.Digest != digestB {
		t.Errorf("adopted %q, want %q", image.Status.Digest, digestB)
	}
}

// TestLostPinCountsNodesThatAreAway: most nodes hold the image, and their agents restart.
func TestLostPinCountsNodesThatAreAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	w.settle()
	for i, digest := range []string{digestB, digestA, digestB} {
		w.report(w.s.Nodes[i].Name, "debian", ready(digest))
		w.s.Nodes[i].AgentReady = digest == digestA
	}
	w.pass()
	w.now = w.now.Add(unavailableAfter)
	image.Status = v1alpha1.CloudImageStatus{ObservedGeneration: -1}
	w.pass()
	if image.Status.Digest != digestB {
		t.Errorf("adopted %q, want %q", image.Status.Digest, digestB)
	}
}

func TestSilentFirstNodeIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	w.settle()
	first := w.granted("debian")[0]
	w.report(first, "debian", func(s *v1alpha1.ImageStatus) { s.State, s.Attempts = v1alpha1.StatePulling, 1 })
	w.settle()
	w.now = w.now.Add(firstStalledAfter - time.Second)
	w.settle()
	if got := w.granted("debian"); got[0] != first {
		t.Fatalf("%s was replaced by %v too early", first, got)
	}
	w.now = w.now.Add(time.Second)
	w.settle()
	if got := w.granted("debian"); len(got) != 1 || got[0] == first {
		t.Fatalf("after 5 minutes without a byte %v pull, want another node than %s", got, first)
	}
}

func TestSlotsGoToNodesThatUseThem(t *testing.T) {
	t.Parallel()
	two := intstr.FromInt32(2)
	for name, hinder := range map[string]func(w *world, node string){
		"full disk":      func(w *world, node string) { w.report(node, "debian", failed(v1alpha1.ReasonInsufficientSpace)) },
		"wrong for good": func(w *world, node string) { w.report(node, "debian", failed(v1alpha1.ReasonNotFound)) },
		"lost": func(w *world, node string) {
			for i := range w.s.Nodes {
				if w.s.Nodes[i].Name == node {
					w.s.Nodes[i].AgentReady = false
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 6)
			image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &two })
			w.settle()
			hindered := w.granted("debian")
			for _, node := range hindered {
				hinder(w, node)
			}
			w.settle()
			w.now = w.now.Add(unavailableAfter)
			for range 4 {
				w.settle()
				for _, node := range w.granted("debian") {
					if node != hindered[0] && node != hindered[1] {
						w.report(node, "debian", ready(digestA))
					}
				}
			}
			w.settle()
			if image.Status.Nodes.Ready != 4 {
				t.Errorf("two hindered nodes stop the others: %+v, granted %v", image.Status.Nodes, w.granted("debian"))
			}
		})
	}
}

func TestBreakerStopsTheRollout(t *testing.T) {
	t.Parallel()
	one := intstr.FromInt32(1)
	w := newWorld(t, 5)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &one })
	w.settle()
	w.report(w.granted("debian")[0], "debian", failed(v1alpha1.ReasonDigestMismatch))
	for range 5 {
		w.now = w.now.Add(time.Hour)
		w.settle()
	}
	if got := w.granted("debian"); len(got) != 1 {
		t.Errorf("a wrong digest reached %v", got)
	}
	condition := readyOf(&image.Status)
	if !isTrue(image.Status.Conditions, v1alpha1.ConditionStalled) || condition.Reason != v1alpha1.ReasonDigestMismatch {
		t.Errorf("conditions: %+v", image.Status.Conditions)
	}
	image.Spec.Digest = digestB
	image.Generation++
	w.settle()
	if got := w.granted("debian"); len(got) != 1 || isTrue(image.Status.Conditions, v1alpha1.ConditionStalled) {
		t.Errorf("a new revision is not rolled out: granted %v, %+v", got, image.Status.Conditions)
	}
}

func TestSuspendHoldsEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	image := w.apply("debian", nil)
	w.settle()
	w.report("node-001", "debian", ready(digestA))
	image.Spec.Suspend = true
	w.settle()
	for name, cache := range w.s.Caches {
		if order := orderIn(cache, "debian"); order == nil || order.Action != v1alpha1.ActionHold {
			t.Errorf("%s: order %+v", name, order)
		}
	}
	if readyOf(&image.Status).Reason != v1alpha1.ReasonSuspended || image.Status.Nodes.Ready != 1 {
		t.Errorf("status: %+v", image.Status)
	}
}

func TestDeletion(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		policy      v1alpha1.DeletionPolicy
		lost        bool // the third node's agent is gone
		wantRemoves int
	}{
		"delete":              {v1alpha1.DeletionDelete, false, 3},
		"retain":              {v1alpha1.DeletionRetain, false, 0},
		"delete without node": {v1alpha1.DeletionDelete, true, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 3)
			image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.DeletionPolicy = tt.policy })
			w.settle()
			for _, node := range w.s.Nodes {
				w.report(node.Name, "debian", ready(digestA))
			}
			w.settle()
			w.s.Nodes[2].AgentReady = !tt.lost
			w.settle()
			w.now = w.now.Add(unavailableAfter)
			image.DeletionTimestamp = &metav1.Time{Time: w.now}
			w.pass()
			removes := 0
			for _, cache := range w.s.Caches {
				for _, order := range cache.Spec.Images {
					if order.Action == v1alpha1.ActionRemove {
						removes++
					}
				}
			}
			if removes != tt.wantRemoves {
				t.Fatalf("%d orders to remove, want %d", removes, tt.wantRemoves)
			}
			for i, node := range w.s.Nodes {
				if tt.wantRemoves > 0 && (i < 2 || !tt.lost) {
					if len(w.s.Images) == 0 {
						t.Fatal("the image went before the nodes dropped it")
					}
					w.drop(node.Name, "debian")
					w.pass()
				}
			}
			w.settle()
			if len(w.s.Images) != 0 {
				t.Fatal("the finalizer did not end")
			}
			if tt.lost {
				if order := orderIn(w.s.Caches["node-002"], "debian"); order == nil || order.Action != v1alpha1.ActionRemove {
					t.Errorf("the lost node forgets to remove the image: %+v", order)
				}
				w.drop("node-002", "debian")
				w.settle()
			}
			for name, cache := range w.s.Caches {
				if len(cache.Spec.Images) != 0 {
					t.Errorf("%s keeps the orders %+v", name, cache.Spec.Images)
				}
			}
		})
	}
}

func TestNewMachineUnderAnOldNameStartsAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	image := w.apply("debian", nil)
	w.settle()
	w.report("node-000", "debian", ready(digestA))
	w.report("node-001", "debian", ready(digestA))
	w.settle()
	w.s.Nodes[1].UID = "another machine"
	w.pass()
	if image.Status.Nodes.Ready != 1 {
		t.Errorf("an old machine's Ready counts: %+v", image.Status.Nodes)
	}
	w.settle()
	if got := w.s.Caches["node-001"].Spec.NodeUID; got != "another machine" {
		t.Errorf("nodeUID is still %q", got)
	}
}

func TestLateNodesDoNotUnsetReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	image := w.apply("debian", nil)
	w.settle()
	w.report("node-000", "debian", ready(digestA))
	w.report("node-001", "debian", ready(digestA))
	w.settle()
	w.s.Nodes = append(w.s.Nodes, Node{Name: "node-002", UID: "uid-002", HasAgent: true, AgentReady: true})
	w.settle()
	if !isTrue(image.Status.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("a node that joins unsets Ready: %+v", image.Status.Conditions)
	}
	if got := w.granted("debian"); len(got) != 1 || got[0] != "node-002" {
		t.Errorf("granted %v, want the new node", got)
	}
}

func TestNoOrderBeforeTheFinalizer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Finalizers = nil })
	w.pass()
	if len(w.plan.AddFinalizer) != 1 || len(w.s.Caches["node-000"].Spec.Images) != 0 {
		t.Errorf("plan %+v", w.plan)
	}
	image.Finalizers = []string{v1alpha1.Finalizer}
	w.settle()
	if len(w.granted("debian")) != 1 {
		t.Error("no order after the finalizer")
	}
}

func BenchmarkPlan5000Nodes50Images(b *testing.B) {
	w := newWorld(&testing.T{}, 5000)
	for i := range 50 {
		w.apply(fmt.Sprintf("image-%02d", i), nil)
	}
	w.settle()
	for _, node := range w.s.Nodes {
		for _, image := range w.s.Images {
			w.report(node.Name, image.Name, ready(digestA))
		}
	}
	w.settle()
	b.ReportAllocs()
	for b.Loop() {
		w.memory = w.memory.Observe(w.s, w.now)
		plan := MakePlan(w.s, w.memory, w.now)
		for i := range plan.views {
			summarize(&plan.views[i], &plan.rollouts[i], w.now)
		}
	}
}

// TestRenameKeepsTheBytes deletes an image and applies another one of the same digest
// in one look: nodes must hear of the second before they are told to remove the first.
func TestRenameKeepsTheBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	old := w.apply("debian", nil)
	w.settle()
	for _, node := range w.s.Nodes {
		w.report(node.Name, "debian", ready(digestA))
	}
	w.settle()
	renamed := w.apply("trixie", func(i *v1alpha1.CloudImage) {
		i.Finalizers, i.CreationTimestamp = nil, metav1.Time{Time: w.now.Add(-time.Hour)} // no manager ran meanwhile
	})
	old.DeletionTimestamp = &metav1.Time{Time: w.now}
	actions := func() (all []v1alpha1.ImageAction) {
		w.pass()
		for _, order := range w.s.Caches["node-000"].Spec.Images {
			all = append(all, order.Action)
		}
		return all
	}
	if got := actions(); !slices.Equal(got, []v1alpha1.ImageAction{v1alpha1.ActionPull}) {
		t.Errorf("before the new image has its finalizer the orders are %v", got)
	}
	if !slices.Contains(w.s.Images, old) {
		t.Error("the old image went before the nodes dropped it")
	}
	renamed.Finalizers = []string{v1alpha1.Finalizer}
	if got := actions(); !slices.Equal(got, []v1alpha1.ImageAction{v1alpha1.ActionRemove, v1alpha1.ActionPull}) {
		t.Errorf("then they are %v", got)
	}
}

// TestUnreadableSelectorKeepsOrders: a typing error must not make nodes forget an image.
func TestUnreadableSelectorKeepsOrders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	image := w.apply("debian", nil)
	w.settle()
	before := w.s.Caches["node-000"]
	image.Spec.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "pool", Operator: "in", Values: []string{"vms"}}}}
	w.settle()
	if w.s.Caches["node-000"] != before {
		t.Errorf("the orders became %+v", w.s.Caches["node-000"].Spec.Images)
	}
	if ready := readyOf(&image.Status); ready.Reason != v1alpha1.ReasonInvalidNodeSelector {
		t.Errorf("Ready is %+v", ready)
	}
	image.DeletionTimestamp = &metav1.Time{Time: w.now}
	w.pass()
	if got := w.s.Caches["node-000"].Spec.Images; len(got) != 1 || got[0].Action != v1alpha1.ActionRemove {
		t.Errorf("its deletion orders %+v", got)
	}
}

// TestStalledNodeAndItsSuccessorDoNotOverlap: the first may be about to begin.
func TestStalledNodeAndItsSuccessorDoNotOverlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	one := intstr.FromInt32(1)
	w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &one })
	w.settle()
	first := w.granted("debian")
	w.now = w.now.Add(stalledAfter)
	w.pass()
	if got := w.granted("debian"); len(got) != 0 {
		t.Errorf("%v pull in the pass that takes the slot from %v", got, first)
	}
	w.pass()
	if got := w.granted("debian"); len(got) != 1 || got[0] == first[0] {
		t.Errorf("then %v pull, want another node than %v", got, first)
	}
}

// TestReportsOfOneNodeCannotStopTheImage: what the API server would refuse of an image must not come from a node.
func TestReportsOfOneNodeCannotStopTheImage(t *testing.T) {
	t.Parallel()
	w, image := broken(t, 6, v1alpha1.ReasonForbidden)
	w.report("node-000", "debian", failed(""))
	if len(w.granted("debian")) == 0 {
		t.Fatal("nobody was granted")
	}
	liar := w.granted("debian")[0]
	reportedIn(w.s.Caches[liar], "debian").Retry = math.MaxInt32
	w.settle()
	for _, failure := range image.Status.Failures {
		if failure.Reason == "" {
			t.Errorf("failure without a reason: %+v", failure)
		}
	}
	w.now = w.now.Add(probeEvery)
	w.settle()
	highest := int32(0)
	for _, cache := range w.s.Caches {
		highest = max(highest, orderIn(cache, "debian").Retry)
	}
	if highest != 1 {
		t.Errorf("the next attempt has the number %d", highest)
	}
}

// TestNoNodesIsNotWarm: it is Ready, so that pipelines go on, and was never warmed.
func TestNoNodesIsNotWarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) {
		i.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "gpu"}}
	})
	w.settle()
	if image.Status.LastWarmedTime != nil || !isTrue(image.Status.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("status %+v", image.Status)
	}
}
