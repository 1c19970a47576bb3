package controller

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// maxWarmedSelector is the largest selector that a status repeats, in bytes of its
// keys and values. The API server takes selectors of more than a megabyte, and a
// second copy of one would be refused.
const maxWarmedSelector = 16 << 10

// warmedBefore tells whether the image is Ready already, in the same revision and
// for what its selector selects now. Nodes that join or are labelled later match
// the selector that was warmed, too, and do not unset that; nodes that only the
// current selector matches were added by an edit, and count until they are ready.
func warmedBefore(v *imageView) bool {
	old := &v.image.Status
	ready := readyOf(old)
	if old.Revision != v.revision || ready.Status != metav1.ConditionTrue || ready.Reason != v1alpha1.ReasonWarmed {
		return false
	}
	if old.WarmedNodeSelector == nil {
		// An earlier release wrote it, or the selector is too large: nobody can tell
		// what an edit since then changed.
		return old.ObservedGeneration == v.image.Generation
	}
	warmed, err := metav1.LabelSelectorAsSelector(old.WarmedNodeSelector)
	if err != nil {
		return false
	}
	for i := range v.nodes {
		n := &v.nodes[i]
		if n.state != nodeReady && n.state != nodeUnavailable && !warmed.Matches(n.node.Labels) {
			return false
		}
	}
	return true
}

// rememberSelector is what a status repeats of the selector that was warmed; nil
// if that is too large. An absent selector is every node, as an empty one.
func rememberSelector(image *v1alpha1.CloudImage) *metav1.LabelSelector {
	selector := image.Spec.NodeSelector
	if selector == nil {
		return &metav1.LabelSelector{}
	}
	size := 0
	for key, value := range selector.MatchLabels {
		size += len(key) + len(value)
	}
	for i := range selector.MatchExpressions {
		size += len(selector.MatchExpressions[i].Key)
		for _, value := range selector.MatchExpressions[i].Values {
			size += len(value)
		}
	}
	if size > maxWarmedSelector {
		return nil
	}
	return selector.DeepCopy()
}
