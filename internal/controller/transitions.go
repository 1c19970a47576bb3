package controller

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// transition is something that a person watching an image's events wants to read once.
type transition struct {
	kind    string // corev1.EventTypeNormal or corev1.EventTypeWarning
	reason  string
	action  string
	message string
	node    string // whose failure it is; empty if it is about the image
}

// transitions are the events between two statuses of an image.
func transitions(before, after *v1alpha1.CloudImageStatus) []transition {
	var found []transition
	add := func(kind, reason, action, format string, args ...any) {
		found = append(found, transition{kind: kind, reason: reason, action: action, message: fmt.Sprintf(format, args...)})
	}
	if before.Revision != after.Revision {
		add(corev1.EventTypeNormal, "RolloutStarted", "Rollout", "rolling out revision %s to %d nodes", after.Revision, after.Nodes.Desired)
	}
	if after.Digest != "" && (before.Digest != after.Digest || before.Revision != after.Revision) {
		add(corev1.EventTypeNormal, "DigestKnown", "Verify", "every node must hold %s", after.Digest)
	}
	added := newFailures(before, after)
	for _, failure := range added {
		add(corev1.EventTypeWarning, failure.Reason, "Pull", "node %s: %s", failure.Node, failure.Message)
		found[len(found)-1].node = failure.Node
	}
	was, is := readyOf(before), readyOf(after)
	switch {
	case is.Status == was.Status && is.Reason == was.Reason && before.Revision == after.Revision:
	case is.Status == metav1.ConditionTrue:
		add(corev1.EventTypeNormal, is.Reason, "Rollout", "%s", warmedText(is, after))
	case is.Status == metav1.ConditionFalse && is.Reason == v1alpha1.ReasonRemoving:
		add(corev1.EventTypeNormal, is.Reason, "Remove", "%s", is.Message)
	case is.Status == metav1.ConditionFalse:
		add(corev1.EventTypeWarning, "Stalled", "Rollout", "%s", is.Message)
	case is.Reason == v1alpha1.ReasonSuspended:
		add(corev1.EventTypeNormal, is.Reason, "Rollout", "%s", is.Message)
	}
	return found
}

// newFailures are the nodes that failed since, or failed for another reason. An
// agent that is away is no event of each image: its Pod and its node have theirs.
func newFailures(before, after *v1alpha1.CloudImageStatus) []v1alpha1.NodeFailure {
	known := map[string]string{}
	if before.Revision == after.Revision {
		for _, failure := range before.Failures {
			known[failure.Node] = failure.Reason
		}
	}
	var added []v1alpha1.NodeFailure
	for _, failure := range after.Failures {
		if known[failure.Node] != failure.Reason && failure.Reason != v1alpha1.ReasonAgentUnavailable {
			added = append(added, failure)
		}
	}
	return added
}

func readyOf(status *v1alpha1.CloudImageStatus) metav1.Condition {
	if ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady); ready != nil {
		return *ready
	}
	return metav1.Condition{}
}

func warmedText(ready metav1.Condition, status *v1alpha1.CloudImageStatus) string {
	if status.Throughput == "" {
		return ready.Message
	}
	return fmt.Sprintf("%s, mean throughput %s", ready.Message, status.Throughput)
}
