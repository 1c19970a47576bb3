package controller

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// labelled sets the labels of the world's nodes: "canary" and "pool=vms" for 0 and 1, "pool=vms" alone for 2.
func (w *world) labelled() {
	for i := range w.s.Nodes {
		w.s.Nodes[i].Labels = map[string]string{"pool": "vms"}
		if i < 2 {
			w.s.Nodes[i].Labels["canary"] = "true"
		}
	}
}

// canary selects the nodes 0 and 1, vms all of them.
func canary() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"canary": "true"}}
}

func vms() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "vms"}}
}

func (w *world) join(name string, labels map[string]string) {
	w.s.Nodes = append(w.s.Nodes, Node{Name: name, UID: "uid-" + name, Labels: labels, HasAgent: true, AgentReady: true})
}

// TestWhatUnsetsReady begins with an image that is warm on the two canaries of three nodes.
func TestWhatUnsetsReady(t *testing.T) {
	t.Parallel()
	restart := func(w *world) { w.memory = Memory{} } // of the manager: the status alone tells
	selects := func(image *v1alpha1.CloudImage, selector *metav1.LabelSelector) {
		image.Spec.NodeSelector = selector
		image.Generation++
	}
	for name, tt := range map[string]struct {
		act  func(w *world, image *v1alpha1.CloudImage)
		want string
	}{
		"nothing": {func(*world, *v1alpha1.CloudImage) {}, "True 2 of 2"},
		"the selector goes": {func(_ *world, image *v1alpha1.CloudImage) {
			selects(image, nil)
		}, "Unknown 2 of 3"},
		"the selector goes while the manager is away": {func(w *world, image *v1alpha1.CloudImage) {
			restart(w)
			selects(image, &metav1.LabelSelector{})
		}, "Unknown 2 of 3"},
		"the selector widens, and the others hold the image already": {func(w *world, image *v1alpha1.CloudImage) {
			selects(image, vms())
			w.settle()
			w.report("node-002", "debian", ready(digestA))
		}, "True 3 of 3"},
		"the selector widens, and the others are away": {func(w *world, image *v1alpha1.CloudImage) {
			w.lose(2)
			selects(image, vms())
		}, "True 2 of 3"},
		"the selector widens, and the write of the status is lost": {func(w *world, image *v1alpha1.CloudImage) {
			selects(image, vms())
			before := image.Status.DeepCopy()
			w.settle() // the orders are written
			image.Status = *before
		}, "Unknown 2 of 3"},
		"the selector moves on": {func(_ *world, image *v1alpha1.CloudImage) {
			selects(image, &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "canary", Operator: "DoesNotExist"}}})
		}, "Unknown 0 of 1"},
		"the selector is written in other words": {func(_ *world, image *v1alpha1.CloudImage) {
			selects(image, &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				{Key: "pool", Operator: "In", Values: []string{"vms", "ci"}}, {Key: "canary", Operator: "Exists"},
			}})
		}, "True 2 of 2"},
		"the selector narrows": {func(w *world, image *v1alpha1.CloudImage) {
			w.s.Nodes[0].Labels["zone"] = "a"
			selects(image, &metav1.LabelSelector{MatchLabels: map[string]string{"canary": "true", "zone": "a"}})
		}, "True 1 of 1"},
		"the selector narrows as nodes join and are labelled": {func(w *world, image *v1alpha1.CloudImage) {
			w.s.Nodes[0].Labels["zone"], w.s.Nodes[2].Labels["zone"] = "a", "a"
			w.s.Nodes[2].Labels["canary"] = "true"
			w.join("node-009", w.s.Nodes[0].Labels)
			selects(image, &metav1.LabelSelector{MatchLabels: map[string]string{"canary": "true", "zone": "a"}})
		}, "True 1 of 3"},
		"the selector narrows to nodes that lost the image": {func(w *world, image *v1alpha1.CloudImage) {
			w.s.Nodes[0].Labels["zone"] = "a"
			w.report("node-000", "debian", func(s *v1alpha1.ImageStatus) { s.State, s.Digest = v1alpha1.StatePulling, "" })
			selects(image, &metav1.LabelSelector{MatchLabels: map[string]string{"zone": "a"}})
		}, "Unknown 0 of 1"},
		"a node joins": {func(w *world, _ *v1alpha1.CloudImage) {
			w.join("node-009", map[string]string{"canary": "true"})
		}, "True 2 of 3"},
		"a node joins while the manager is away": {func(w *world, _ *v1alpha1.CloudImage) {
			restart(w)
			w.join("node-009", map[string]string{"canary": "true"})
		}, "True 2 of 3"},
		"a node is labelled": {func(w *world, _ *v1alpha1.CloudImage) {
			w.s.Nodes[2].Labels = map[string]string{"canary": "true"}
		}, "True 2 of 3"},
		"a node is labelled, then the limit changes, then it is suspended": {func(w *world, image *v1alpha1.CloudImage) {
			w.s.Nodes[2].Labels = map[string]string{"canary": "true"}
			w.settle()
			limit := intstr.FromInt32(1)
			image.Spec.Rollout.MaxConcurrentNodes = &limit
			image.Generation++
			w.settle()
			image.Spec.Suspend = true
			image.Generation++
		}, "True 2 of 3"},
		"a new revision": {func(_ *world, image *v1alpha1.CloudImage) {
			image.Spec.MaxSize.Add(image.Spec.MaxSize)
			image.Generation++
		}, "Unknown 0 of 2"},
		"an earlier release wrote it, and a node had joined": {func(w *world, image *v1alpha1.CloudImage) {
			w.join("node-009", map[string]string{"canary": "true"})
			w.settle()
			image.Status.WarmedNodeSelector = nil
		}, "True 2 of 3"},
		"an earlier release wrote it, and the selector goes": {func(_ *world, image *v1alpha1.CloudImage) {
			image.Status.WarmedNodeSelector = nil
			selects(image, nil)
		}, "Unknown 2 of 3"},
		"an earlier release wrote it, it was looked at, and the selector goes": {func(w *world, image *v1alpha1.CloudImage) {
			image.Status.WarmedNodeSelector = nil
			w.settle()
			selects(image, nil)
		}, "Unknown 2 of 3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 3)
			w.labelled()
			image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.NodeSelector = canary() })
			w.settle()
			for _, node := range []string{"node-000", "node-001"} {
				w.report(node, "debian", ready(digestA))
			}
			w.settle()
			tt.act(w, image)
			w.settle()
			got := fmt.Sprintf("%s %d of %d", readyOf(&image.Status).Status, image.Status.Nodes.Ready, image.Status.Nodes.Desired)
			if got != tt.want {
				t.Errorf("Ready is %s, want %s: %s", got, tt.want, readyOf(&image.Status).Message)
			}
			if warm := image.Status.WarmedNodeSelector; (warm != nil) != strings.HasPrefix(tt.want, "True") {
				t.Errorf("the selector that was warmed is %v", warm)
			}
		})
	}
}

// TestASelectorTooLargeToRepeat keeps Ready as a status of an earlier release does, and no second copy.
func TestASelectorTooLargeToRepeat(t *testing.T) {
	t.Parallel()
	large := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: "canary", Operator: "In", Values: append(strings.Split(strings.Repeat("no-such-value,", maxWarmedSelector/13), ","), "true"),
	}}}
	w := newWorld(t, 3)
	w.labelled()
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.NodeSelector = large })
	w.settle()
	w.report("node-000", "debian", ready(digestA))
	w.report("node-001", "debian", ready(digestA))
	w.settle()
	w.join("node-009", map[string]string{"canary": "true"})
	w.settle()
	if got := readyOf(&image.Status).Status; got != metav1.ConditionTrue || image.Status.WarmedNodeSelector != nil {
		t.Errorf("Ready is %s, and the selector is repeated: %v", got, image.Status.WarmedNodeSelector != nil)
	}
	image.Spec.NodeSelector = nil
	image.Generation++
	w.settle()
	if got := readyOf(&image.Status).Status; got != metav1.ConditionUnknown {
		t.Errorf("without the selector Ready is %s", got)
	}
}

// TestUpgradeWritesAWarmStatusOnce: an object of an earlier release gets its selector, and rests then.
func TestUpgradeWritesAWarmStatusOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	image := w.apply("debian", nil)
	w.settle()
	for _, node := range w.s.Nodes {
		w.report(node.Name, "debian", ready(digestA))
	}
	w.settle()
	image.Status.WarmedNodeSelector = nil
	was := image.Status.DeepCopy()
	w.pass()
	first := image.Status.DeepCopy()
	w.pass()
	if !equality.Semantic.DeepEqual(first, &image.Status) {
		t.Error("the second pass writes the status again")
	}
	was.WarmedNodeSelector = &metav1.LabelSelector{}
	if diff := cmp.Diff(was, first); diff != "" {
		t.Errorf("more than the selector was added: %s", diff)
	}
}
