package controller

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// broken is a world in which as many nodes failed as stop the rollout, with a
// limit of 3, and nothing is under way any more.
func broken(t *testing.T, nodes int, reason string) (*world, *v1alpha1.CloudImage) {
	t.Helper()
	w := newWorld(t, nodes)
	limit := intstr.FromInt32(3)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &limit })
	w.settle()
	for _, node := range w.granted("debian") {
		w.report(node, "debian", failed(reason))
	}
	w.settle()
	return w, image
}

// retrying are the nodes that were ordered another attempt and have not ended it.
func (w *world) retrying(image string) []string {
	var names []string
	for _, node := range w.s.Nodes {
		order, status := orderIn(w.s.Caches[node.Name], image), statusIn(w.s.Caches[node.Name], image)
		if order != nil && status != nil && order.Action == v1alpha1.ActionPull && order.Retry > status.Retry {
			names = append(names, node.Name)
		}
	}
	return names
}

func TestOneNodeTriesAgainEachHour(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		reason string
		edit   func(*v1alpha1.CloudImage)
		after  time.Duration
		want   int
	}{
		"not found, early":    {v1alpha1.ReasonNotFound, nil, probeEvery - time.Second, 0},
		"not found":           {v1alpha1.ReasonNotFound, nil, probeEvery, 1},
		"forbidden":           {v1alpha1.ReasonForbidden, nil, probeEvery, 1},
		"policy":              {v1alpha1.ReasonPolicyDenied, nil, probeEvery, 1},
		"new Secret, early":   {v1alpha1.ReasonCredentialsChanged, nil, probeChangedEvery - time.Second, 0},
		"new Secret":          {v1alpha1.ReasonCredentialsChanged, nil, probeChangedEvery, 1},
		"wrong bytes":         {v1alpha1.ReasonDigestMismatch, nil, 24 * time.Hour, 0},
		"unusable":            {v1alpha1.ReasonInvalidSource, nil, 24 * time.Hour, 0},
		"not found, held now": {v1alpha1.ReasonNotFound, func(i *v1alpha1.CloudImage) { i.Spec.Suspend = true }, 24 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, image := broken(t, 6, tt.reason)
			if got := w.retrying("debian"); len(got) != 0 || !isTrue(image.Status.Conditions, v1alpha1.ConditionStalled) {
				t.Fatalf("before: %v try again, conditions %+v", got, image.Status.Conditions)
			}
			if tt.edit != nil {
				tt.edit(image)
			}
			w.now = w.now.Add(tt.after)
			w.settle()
			if got := w.retrying("debian"); len(got) != tt.want {
				t.Errorf("%v try again after %s, want %d nodes", got, tt.after, tt.want)
			}
		})
	}
}

func TestRetryThatFailsLeavesTheRolloutStopped(t *testing.T) {
	t.Parallel()
	w, image := broken(t, 6, v1alpha1.ReasonForbidden)
	tried := map[string]int{}
	for range 6 {
		w.now = w.now.Add(probeEvery)
		w.settle()
		nodes := w.retrying("debian")
		if len(nodes) != 1 {
			t.Fatalf("%v try again, want one node", nodes)
		}
		tried[nodes[0]]++
		w.report(nodes[0], "debian", func(s *v1alpha1.ImageStatus) { s.State, s.Reason = v1alpha1.StatePulling, "" })
		w.settle()
		if ready := readyOf(&image.Status); !isTrue(image.Status.Conditions, v1alpha1.ConditionStalled) || ready.Reason != v1alpha1.ReasonForbidden {
			t.Errorf("an attempt an hour makes the image %+v", image.Status.Conditions)
		}
		w.report(nodes[0], "debian", failed(v1alpha1.ReasonForbidden))
		w.settle()
	}
	want := map[string]int{}
	for node := range tried {
		want[node] = 2
	}
	if diff := cmp.Diff(want, tried); diff != "" || len(tried) != 3 {
		t.Errorf("attempts by node, which should take turns: %v", tried)
	}
}

// TestNodesThatWaitLetOthersTryAgain: a full disk must not keep a corrected Secret from being tried.
func TestNodesThatWaitLetOthersTryAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	one := intstr.FromInt32(1)
	w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &one })
	w.settle()
	forbidden := w.granted("debian")[0]
	w.report(forbidden, "debian", failed(v1alpha1.ReasonForbidden))
	w.settle()
	for _, node := range w.granted("debian") {
		if node != forbidden {
			w.report(node, "debian", failed(v1alpha1.ReasonInsufficientSpace))
		}
	}
	w.settle()
	w.report(forbidden, "debian", func(s *v1alpha1.ImageStatus) { s.Reason = v1alpha1.ReasonCredentialsChanged })
	w.now = w.now.Add(probeChangedEvery)
	w.pass()
	if got := w.retrying("debian"); len(got) != 0 {
		t.Errorf("%v tries again before the slot is free", got)
	}
	w.settle()
	if got := w.retrying("debian"); len(got) != 1 || got[0] != forbidden {
		t.Errorf("%v tries again, want %s", got, forbidden)
	}
}

func TestRetryThatSucceedsFreesTheRollout(t *testing.T) {
	t.Parallel()
	w, image := broken(t, 8, v1alpha1.ReasonForbidden)
	w.now = w.now.Add(probeEvery)
	w.settle()
	probed := w.retrying("debian")[0]
	w.report(probed, "debian", ready(digestA))
	stubborn := ""
	for range 20 {
		w.settle()
		var busy []string
		for _, node := range w.granted("debian") {
			status := statusIn(w.s.Caches[node], "debian")
			order := orderIn(w.s.Caches[node], "debian")
			if status == nil || status.State != v1alpha1.StateFailed || order.Retry > status.Retry {
				busy = append(busy, node)
			}
		}
		if len(busy) > 3 {
			t.Fatalf("%v pull at once, the limit is 3", busy)
		}
		for _, node := range busy {
			if status := statusIn(w.s.Caches[node], "debian"); status != nil && status.State == v1alpha1.StateFailed && stubborn == "" {
				stubborn = node // the server refuses this one for a reason of its own
			}
			if node == stubborn {
				w.report(node, "debian", failed(v1alpha1.ReasonForbidden))
			} else {
				w.report(node, "debian", ready(digestA))
			}
		}
	}
	if image.Status.Nodes.Ready != 7 || image.Status.Nodes.Failed != 1 {
		t.Fatalf("nodes %+v, want all ready but %s", image.Status.Nodes, stubborn)
	}
	if got := statusIn(w.s.Caches[stubborn], "debian").Attempts; got != 2 {
		t.Errorf("%s tried %d times, want once more after the success elsewhere", stubborn, got)
	}
	w.now = w.now.Add(probeEvery)
	w.settle()
	if got := w.retrying("debian"); len(got) != 1 || got[0] != stubborn {
		t.Errorf("an hour later %v try again, want %s", got, stubborn)
	}
}

// TestBreakerAfterSuccessesAndRestarts: failures that reach the limit stop the
// rollout, a success of a node that was granted before starts it again.
func TestBreakerAfterSuccessesAndRestarts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 20)
	limit := intstr.FromInt32(3)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &limit })
	w.settle()
	under := func() []string {
		var names []string
		for _, node := range w.granted("debian") {
			if s := statusIn(w.s.Caches[node], "debian"); s == nil || s.State != v1alpha1.StateFailed {
				names = append(names, node)
			}
		}
		return names
	}
	fail := func(count int) {
		for range count {
			w.report(under()[0], "debian", failed(v1alpha1.ReasonInvalidSource))
			w.settle()
		}
	}
	fail(3)
	if got := under(); len(got) != 2 || w.plan.rollouts[0].broken == "" {
		t.Fatalf("%v pull after three failures, want the two that were granted before", got)
	}
	w.memory = Memory{} // a restart forgives nothing
	w.settle()
	if got := under(); len(got) != 2 {
		t.Fatalf("%v pull after a restart, want the same two", got)
	}
	w.report(under()[0], "debian", ready(digestA))
	w.settle()
	if got := under(); len(got) != 3 {
		t.Fatalf("%v pull after a success, want three again", got)
	}
	fail(2)
	if got := under(); len(got) != 3 {
		t.Fatalf("%v pull after two more failures, want three", got)
	}
	fail(1)
	if got := under(); len(got) != 2 {
		t.Errorf("%v pull after three more failures, want two", got)
	}
	image.Annotations = map[string]string{v1alpha1.RequestedAtAnnotation: "now"}
	image.Generation++
	w.settle()
	if got := w.granted("debian"); len(got) != 3 || image.Status.LastHandledRequestedAt != "now" {
		t.Errorf("%v pull after a request, want three; status %+v", got, image.Status)
	}
}

// TestRepairNeedsNoSlot: what a node held is no part of the rollout.
func TestRepairNeedsNoSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	one := intstr.FromInt32(1)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &one })
	for range 4 {
		w.settle()
		w.report(w.granted("debian")[0], "debian", ready(digestA))
	}
	w.settle()
	lost := func(s *v1alpha1.ImageStatus) { s.State, s.Digest = v1alpha1.StatePulling, "" }
	w.report("node-000", "debian", lost)
	w.report("node-001", "debian", lost)
	w.s.Nodes = append(w.s.Nodes, Node{Name: "node-004", UID: "uid-004", HasAgent: true, AgentReady: true})
	w.settle()
	w.now = w.now.Add(2 * stalledAfter)
	w.settle()
	if diff := cmp.Diff([]string{"node-000", "node-001", "node-004"}, w.granted("debian")); diff != "" {
		t.Errorf("two repairs and a new node: %s", diff)
	}
	if ready := readyOf(&image.Status); ready.Status != metav1.ConditionTrue || image.Status.Nodes.Ready != 2 {
		t.Errorf("repairs make the image %+v", image.Status)
	}
	for _, node := range []string{"node-002", "node-003"} {
		w.report(node, "debian", lost)
	}
	w.settle()
	if ready := readyOf(&image.Status); ready.Status != metav1.ConditionUnknown || ready.Reason != v1alpha1.ReasonWarming {
		t.Errorf("no node holds the image, and Ready is %+v", ready)
	}
	w.report("node-000", "debian", ready(digestA))
	w.settle()
	if ready := readyOf(&image.Status); ready.Status != metav1.ConditionUnknown {
		t.Errorf("one of five nodes is enough for %+v", ready)
	}
}

// TestRepairUnderHold: a node that adopted its bytes under Hold, as after a reinstallation, repairs itself as well.
func TestRepairUnderHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	one := intstr.FromInt32(1)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) {
		i.Spec.Suspend = true
		i.Spec.Rollout.MaxConcurrentNodes = &one
	})
	w.settle()
	w.report("node-000", "debian", ready(digestA))
	w.settle()
	image.Spec.Suspend = false
	w.settle()
	other := w.granted("debian") // has the only slot
	w.report("node-000", "debian", func(s *v1alpha1.ImageStatus) { s.State, s.Digest = v1alpha1.StatePending, "" })
	w.settle()
	if diff := cmp.Diff(append([]string{"node-000"}, other...), w.granted("debian")); diff != "" || len(other) != 1 {
		t.Errorf("a repair and a first pull: %s", diff)
	}
}

// TestHourlyRetryWhateverFailedLast: of a rollout that too many failures stop, those that may heal are tried again,
// whichever node comes last.
func TestHourlyRetryWhateverFailedLast(t *testing.T) {
	t.Parallel()
	for _, corrupt := range []int{0, 2} {
		w := newWorld(t, 5)
		limit := intstr.FromInt32(3)
		w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &limit })
		w.settle()
		w.report(w.granted("debian")[0], "debian", ready(digestA))
		w.settle()
		for i, node := range w.granted("debian") {
			reason := v1alpha1.ReasonForbidden
			if i == corrupt {
				reason = v1alpha1.ReasonDigestMismatch
			}
			w.report(node, "debian", failed(reason))
		}
		w.settle()
		w.now = w.now.Add(probeEvery)
		w.settle()
		if got := w.retrying("debian"); len(got) != 1 {
			t.Errorf("node %d of 3 has other bytes: %v try again, want one", corrupt, got)
		}
	}
}

// TestAwayAgentKeepsItsOrder: an agent's restart costs no writes on nodes that are warm.
func TestAwayAgentKeepsItsOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	w.apply("debian", nil)
	w.settle()
	w.report("node-000", "debian", ready(digestA))
	w.settle()
	for i := range w.s.Nodes {
		w.s.Nodes[i].AgentReady = false
	}
	w.settle()
	w.now = w.now.Add(unavailableAfter)
	w.settle()
	got := map[string]v1alpha1.ImageAction{}
	for name, cache := range w.s.Caches {
		got[name] = orderIn(cache, "debian").Action
	}
	want := map[string]v1alpha1.ImageAction{"node-000": v1alpha1.ActionPull, "node-001": v1alpha1.ActionHold}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
