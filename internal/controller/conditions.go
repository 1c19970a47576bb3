package controller

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

// verdict is what the three conditions say. Reconciling and Stalled exist only
// while they are True, and never together (kstatus).
type verdict struct {
	ready           metav1.ConditionStatus
	reconciling     bool
	stalled         bool
	reason, message string
}

// judge reads the counts of an image as a verdict.
func judge(v *imageView, r *rollout, status *v1alpha1.CloudImageStatus) verdict {
	counts := status.Nodes
	available := counts.Desired - counts.Unavailable
	switch {
	case v.selector != nil:
		return stalled(v1alpha1.ReasonInvalidNodeSelector,
			"spec.nodeSelector: "+redact.Printable(v.selector.Error())+". "+adviceFor(v1alpha1.ReasonInvalidNodeSelector))
	case v.matched == 0 && v.terminating > 0:
		return verdict{ready: metav1.ConditionUnknown, reconciling: true, reason: v1alpha1.ReasonNodesTerminating,
			message: fmt.Sprintf("all %d nodes that spec.nodeSelector matches are being deleted. %s",
				v.terminating, adviceFor(v1alpha1.ReasonNodesTerminating))}
	case v.matched == 0:
		return verdict{ready: metav1.ConditionTrue, reason: v1alpha1.ReasonNoNodes,
			message: "spec.nodeSelector matches no node. " + adviceFor(v1alpha1.ReasonNoNodes)}
	case len(v.split) > 0:
		return stalled(v1alpha1.ReasonDigestDisputed, v.dispute())
	case available > 0 && counts.Ready == available, warmedBefore(v) && counts.Ready > 0:
		return verdict{ready: metav1.ConditionTrue, reason: v1alpha1.ReasonWarmed, message: progressText(v, counts)}
	case v.image.Spec.Suspend:
		return verdict{ready: metav1.ConditionUnknown, reason: v1alpha1.ReasonSuspended,
			message: progressText(v, counts) + ". " + adviceFor(v1alpha1.ReasonSuspended)}
	case available == 0:
		return verdict{ready: metav1.ConditionUnknown, reconciling: true, reason: v1alpha1.ReasonWaitingForAgents,
			message: fmt.Sprintf("none of the %d selected nodes has a ready agent%s. %s",
				v.matched, firstOf(v), adviceFor(v1alpha1.ReasonWaitingForAgents))}
	case nothingMoves(v, r):
		return stalled(worstReason(v, status), failureText(v, r, status))
	default:
		return verdict{ready: metav1.ConditionUnknown, reconciling: true,
			reason: cmp.Or(waitingReason(v), v1alpha1.ReasonWarming), message: failureText(v, r, status)}
	}
}

func stalled(reason, message string) verdict {
	return verdict{ready: metav1.ConditionFalse, stalled: true, reason: reason, message: message}
}

// nothingMoves tells whether terminal failures remain and no other node gets any
// further: none pulls or tries again, and none will be granted a slot. The one
// node that tries again each hour is no progress until it succeeds: the image
// would otherwise be Stalled and not Stalled in turns.
func nothingMoves(v *imageView, r *rollout) bool {
	failed := false
	for i := range v.nodes {
		n := &v.nodes[i]
		switch {
		case n.state == nodeReady, n.state == nodeUnavailable:
		case n.failedTerminally(), v.retries(n):
			failed = true
		case r.pull[n.node.Name], r.broken == "":
			return false
		}
	}
	return failed
}

// waitingReason is why every node that is not ready waits, if they all wait and
// for one reason.
func waitingReason(v *imageView) string {
	reason := ""
	for i := range v.nodes {
		n := &v.nodes[i]
		switch {
		case n.state == nodeReady, n.state == nodeUnavailable:
		case !n.waits(), reason != "" && reason != n.status.Reason:
			return ""
		default:
			reason = n.status.Reason
		}
	}
	return reason
}

// worstReason is the reason of the first failure, of which the terminal ones come
// first; while the only node that failed tries again, it is what it was.
func worstReason(v *imageView, status *v1alpha1.CloudImageStatus) string {
	if len(status.Failures) > 0 && status.Failures[0].Reason != v1alpha1.ReasonAgentUnavailable {
		return status.Failures[0].Reason
	}
	old := readyOf(&v.image.Status)
	if v.image.Status.Revision == v.revision && old.Status == metav1.ConditionFalse {
		return old.Reason
	}
	return v1alpha1.ReasonWarming
}

// firstOf names one of the desired nodes, to begin looking at, and what is wrong there.
func firstOf(v *imageView) string {
	if len(v.nodes) == 0 {
		return ""
	}
	return fmt.Sprintf(", %s among them: %s", v.nodes[0].node.Name, v.nodes[0].trouble())
}

func progressText(v *imageView, counts v1alpha1.NodeCounts) string {
	parts := []string{fmt.Sprintf("%d of %d nodes ready", counts.Ready, counts.Desired)}
	for _, part := range []struct {
		count int32
		what  string
	}{{counts.Pulling, "pulling"}, {counts.Pending, "pending"}, {counts.Failed, "failed"}, {counts.Unavailable, "unavailable"}} {
		if part.count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.count, part.what))
		}
	}
	if without := v.matched - len(v.nodes); without > 0 {
		parts = append(parts, fmt.Sprintf("%d selected without an agent", without))
	}
	return strings.Join(parts, ", ")
}

// failureText is the progress, whether failures stop it, and the first failure in full.
func failureText(v *imageView, r *rollout, status *v1alpha1.CloudImageStatus) string {
	text := progressText(v, status.Nodes)
	if r.broken != "" {
		text += ", no further node is tried until one succeeds or the image is edited"
	}
	if len(status.Failures) == 0 {
		return text
	}
	first := status.Failures[0]
	return fmt.Sprintf("%s; %s: %s: %s", text, first.Node, first.Reason, first.Message)
}

// setConditions writes a verdict over the image's conditions. Transition times
// stay where the status stays.
func setConditions(status *v1alpha1.CloudImageStatus, judged verdict, image *v1alpha1.CloudImage, now time.Time) {
	conditions := slices.Clone(image.Status.Conditions)
	set := func(kind string, value metav1.ConditionStatus) {
		meta.SetStatusCondition(&conditions, metav1.Condition{
			Type: kind, Status: value, Reason: judged.reason, Message: judged.message,
			ObservedGeneration: image.Generation, LastTransitionTime: metav1.Time{Time: now.Truncate(time.Second)},
		})
	}
	set(v1alpha1.ConditionReady, judged.ready)
	for kind, present := range map[string]bool{
		v1alpha1.ConditionReconciling: judged.reconciling, v1alpha1.ConditionStalled: judged.stalled,
	} {
		if present {
			set(kind, metav1.ConditionTrue)
		} else {
			meta.RemoveStatusCondition(&conditions, kind)
		}
	}
	slices.SortFunc(conditions, func(a, b metav1.Condition) int { return cmp.Compare(a.Type, b.Type) })
	status.Conditions = conditions
}

func isTrue(conditions []metav1.Condition, kind string) bool {
	return meta.IsStatusConditionTrue(conditions, kind)
}

// summarizeRemoval is the status of an image that is being deleted.
func summarizeRemoval(image *v1alpha1.CloudImage, remaining int, first string, now time.Time) v1alpha1.CloudImageStatus {
	status := *image.Status.DeepCopy()
	status.ObservedGeneration = image.Generation
	setConditions(&status, verdict{
		ready: metav1.ConditionFalse, reconciling: true, reason: v1alpha1.ReasonRemoving,
		message: fmt.Sprintf("%d available nodes have not dropped the image yet, %s among them. %s", remaining, first, adviceFor(v1alpha1.ReasonRemoving)),
	}, image, now)
	return status
}
