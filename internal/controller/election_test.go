package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestElection tables who reports which digest of an image that gives none, and
// which one is pinned. A node in capitals has a turn.
func TestElection(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		reports  string // "a", "b" or "-" for each node; in capitals it has a turn
		pin      string
		disputed bool
	}{
		"nobody":                                  {reports: "---"},
		"the first node":                          {reports: "A---", pin: digestA},
		"a fleet of one":                          {reports: "A", pin: digestA},
		"a node without a turn":                   {reports: "-b--"},
		"against the first node":                  {reports: "Ab--", pin: digestA},
		"with the first node":                     {reports: "Aa--", pin: digestA},
		"lost status":                             {reports: "AAAA", pin: digestA},
		"lost status, one node":                   {reports: "A", pin: digestA},
		"lost status, one lies":                   {reports: "AABA", pin: digestA},
		"lost status, two nodes agree":            {reports: "AA", pin: digestA},
		"lost status, two nodes do not":           {reports: "AB", disputed: true},
		"lost status, two against two":            {reports: "ABAB", disputed: true},
		"lost status and orders":                  {reports: "aaaa", pin: digestA},
		"lost status and orders, one node":        {reports: "a"},
		"lost status and orders, one lies":        {reports: "aaba", pin: digestA},
		"lost status and orders, the first lies":  {reports: "Baaa", pin: digestA},
		"lost status and orders, two do not":      {reports: "ab"},
		"lost status and orders, two against two": {reports: "abab", disputed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, len(tt.reports))
			image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
			w.settle()
			for i, report := range tt.reports {
				node := w.s.Nodes[i].Name
				action := v1alpha1.ActionHold
				if report < 'a' && report != '-' {
					action = v1alpha1.ActionPull
				}
				cache := w.s.Caches[node].DeepCopy()
				cache.Spec.Images[0].Action = action
				w.s.Caches[node] = cache
				switch report {
				case 'a', 'A':
					w.report(node, "debian", ready(digestA))
				case 'b', 'B':
					w.report(node, "debian", ready(digestB))
				}
			}
			w.pass()
			condition := readyOf(&image.Status)
			if disputed := condition.Reason == v1alpha1.ReasonDigestDisputed; image.Status.Digest != tt.pin || disputed != tt.disputed {
				t.Errorf("digest %q, want %q; Ready says %s: %s", image.Status.Digest, tt.pin, condition.Reason, condition.Message)
			}
			if tt.pin == "" && (image.Status.Nodes.Ready > 0 || isTrue(image.Status.Conditions, v1alpha1.ConditionReady)) {
				t.Errorf("ready without a digest: %+v", image.Status)
			}
		})
	}
}

// TestForgedDigestUnderHold: the first node finds the digest, whatever one reports that has no turn.
func TestForgedDigestUnderHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 11)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	w.settle()
	first := w.granted("debian")[0]
	liar := w.s.Nodes[0].Name
	if liar == first {
		liar = w.s.Nodes[1].Name
	}
	w.report(liar, "debian", ready(digestB))
	w.settle()
	w.report(first, "debian", ready(digestA))
	for range 3 {
		w.settle()
		for _, node := range w.granted("debian") {
			if node != liar {
				w.report(node, "debian", ready(digestA))
			}
		}
	}
	w.settle()
	if image.Status.Digest != digestA || image.Status.Nodes.Ready != 10 {
		t.Errorf("digest %s, nodes %+v", image.Status.Digest, image.Status.Nodes)
	}
}

// TestOnlyNodeWithoutATurn holds the image, and the objects that said so are lost: it gets a turn, and is asked again.
func TestOnlyNodeWithoutATurn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest, i.Spec.Suspend = "", true })
	w.settle()
	w.report("node-000", "debian", ready(digestA))
	w.settle()
	if image.Status.Digest != "" || image.Status.Nodes.Ready != 0 {
		t.Fatalf("suspended, and yet %+v", image.Status)
	}
	image.Spec.Suspend = false
	w.settle()
	if image.Status.Digest != digestA || !isTrue(image.Status.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("status %+v", image.Status)
	}
}

// TestPinnedStaysPinned, whatever most nodes report: so it was before an upgrade, too.
func TestPinnedStaysPinned(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	image.Status.Revision, image.Status.Digest = revisionOf(image), digestA
	w.settle()
	for _, node := range w.s.Nodes {
		w.report(node.Name, "debian", ready(digestB))
	}
	w.settle()
	if image.Status.Digest != digestA || image.Status.Nodes.Ready != 0 {
		t.Errorf("status %+v", image.Status)
	}
}

// TestDisputeIsToldAndEnds when the sides are no longer equal; nobody pulls meanwhile.
func TestDisputeIsToldAndEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 6)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	w.settle()
	for i, digest := range []string{digestA, digestA, digestA, digestB, digestB, digestB} {
		w.report(w.s.Nodes[i].Name, "debian", ready(digest))
	}
	image.Status = v1alpha1.CloudImageStatus{ObservedGeneration: -1}
	for range 3 {
		w.now = w.now.Add(probeEvery)
		w.settle()
	}
	condition := readyOf(&image.Status)
	for _, want := range []string{"node-000, node-001 and 1 more hold " + digestA, "node-003, node-004 and 1 more hold " + digestB, adviceFor(v1alpha1.ReasonDigestDisputed)} {
		if !strings.Contains(condition.Message, want) {
			t.Errorf("the message does not say %q: %s", want, condition.Message)
		}
	}
	if !isTrue(image.Status.Conditions, v1alpha1.ConditionStalled) || image.Status.Nodes.Ready != 0 {
		t.Errorf("status %+v", image.Status)
	}
	w.report("node-005", "debian", ready(digestA))
	w.settle()
	if image.Status.Digest != digestA || isTrue(image.Status.Conditions, v1alpha1.ConditionStalled) || image.Status.Nodes.Ready != 4 {
		t.Errorf("4 of 6 agree: %+v", image.Status)
	}
}

// TestFailuresOfNodesWithoutATurn stop nobody, and free nobody.
func TestFailuresOfNodesWithoutATurn(t *testing.T) {
	t.Parallel()
	for _, reason := range []string{v1alpha1.ReasonDigestMismatch, v1alpha1.ReasonNotFound} {
		w := newWorld(t, 8)
		one := intstr.FromInt32(1)
		w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Rollout.MaxConcurrentNodes = &one })
		w.settle()
		first := w.granted("debian")[0]
		liars := 0
		for _, node := range w.s.Nodes {
			if node.Name != first && liars < breakerFailures {
				w.report(node.Name, "debian", failed(reason))
				liars++
			}
		}
		w.settle()
		w.report(first, "debian", pulling)
		w.settle()
		if got := w.plan.rollouts[0].broken; got != "" {
			t.Errorf("%s: the rollout is stopped: %s", reason, got)
		}
		w.now = w.now.Add(time.Second)
		w.report(first, "debian", ready(digestA))
		w.settle()
		if got := w.granted("debian"); len(got) != 1 || got[0] == first {
			t.Errorf("%s: then %v pull", reason, got)
		}
	}
}

// TestUnorderedRetryProvesNothing: leave to try again comes from a node that was ordered to.
func TestUnorderedRetryProvesNothing(t *testing.T) {
	t.Parallel()
	w, _ := broken(t, 6, v1alpha1.ReasonNotFound)
	w.now = w.now.Add(probeEvery)
	w.settle()
	before := w.granted("debian")
	var liar string
	for _, node := range w.s.Nodes {
		if orderIn(w.s.Caches[node.Name], "debian").Action == v1alpha1.ActionHold {
			liar = node.Name
		}
	}
	w.report(liar, "debian", ready(digestA))
	reportedIn(w.s.Caches[liar], "debian").Retry = 1
	reportedIn(w.s.Caches[liar], "debian").Attempts = 0
	w.settle()
	if diff := cmp.Diff(before, w.granted("debian")); diff != "" {
		t.Errorf("a lie lets others begin: %s", diff)
	}
}
