package controller

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

const (
	// maxFailures is how many nodes status.failures names.
	maxFailures = 10
	// maxMessage is the longest message of a failure, in bytes.
	maxMessage = 256
)

// summarize is the status of an image that is not being deleted: what its nodes
// report, and what was decided for it.
func summarize(v *imageView, r *rollout, now time.Time) v1alpha1.CloudImageStatus {
	old := &v.image.Status
	status := v1alpha1.CloudImageStatus{
		ObservedGeneration:     v.image.Generation,
		Revision:               v.revision,
		LastHandledRequestedAt: shorten(v.image.Annotations[v1alpha1.RequestedAtAnnotation], maxMessage), // as it is: it is compared
		Digest:                 v.wanted(),
		Nodes:                  countNodes(v),
		Failures:               failuresOf(v),
	}
	describeBytes(&status, v)
	describeThroughput(&status, v)
	judged := judge(v, r, &status)
	setConditions(&status, judged, v.image, now)
	status.LastWarmedTime = old.LastWarmedTime.DeepCopy()
	if judged.reason == v1alpha1.ReasonWarmed {
		status.WarmedNodeSelector = rememberSelector(v.image)
		if !warmedBefore(v) {
			status.LastWarmedTime = &metav1.Time{Time: now.Truncate(time.Second)}
		}
	}
	return status
}

func countNodes(v *imageView) v1alpha1.NodeCounts {
	counts := v1alpha1.NodeCounts{Desired: int32(len(v.nodes))}
	for i := range v.nodes {
		switch v.nodes[i].state {
		case nodeUnavailable:
			counts.Unavailable++
		case nodeFailed:
			counts.Failed++
		case nodeReady:
			counts.Ready++
		case nodePulling:
			counts.Pulling++
		default:
			counts.Pending++
		}
	}
	return counts
}

// failuresOf names the first failed nodes by name, those that failed for good
// first, and then those whose agent is away.
func failuresOf(v *imageView) []v1alpha1.NodeFailure {
	var failed, away []*nodeView
	for i := range v.nodes {
		switch v.nodes[i].state {
		case nodeFailed:
			failed = append(failed, &v.nodes[i])
		case nodeUnavailable:
			away = append(away, &v.nodes[i])
		default:
		}
	}
	slices.SortStableFunc(failed, func(a, b *nodeView) int {
		return int(classOf(b.status.Reason)) - int(classOf(a.status.Reason))
	})
	var failures []v1alpha1.NodeFailure
	for _, n := range failed[:min(len(failed), maxFailures)] {
		failures = append(failures, v1alpha1.NodeFailure{
			Node: n.node.Name, Reason: n.status.Reason, Message: explain(v.image, n.status),
		})
	}
	for _, n := range away[:min(len(away), max(0, maxFailures-len(failed)))] {
		failures = append(failures, v1alpha1.NodeFailure{
			Node: n.node.Name, Reason: v1alpha1.ReasonAgentUnavailable,
			Message: advise(n.trouble(), adviceFor(v1alpha1.ReasonAgentUnavailable)),
		})
	}
	return failures
}

// trouble is what is wrong with the agent of a node.
func (n *nodeView) trouble() string {
	return cmp.Or(n.node.AgentTrouble, "no agent's Pod is on the node")
}

// explain says what happened on a node and what to do about it. A report may
// hold characters that no agent writes.
func explain(image *v1alpha1.CloudImage, status *v1alpha1.ImageStatus) string {
	advice, message := adviceOnPull(image, status.Reason), redact.Printable(status.Message)
	return advise(message, advice)
}

// advise adds to what happened what to do about it.
func advise(message, advice string) string {
	if advice == "" {
		return clip(message)
	}
	const separator = ". "
	if message == "" {
		return advice
	}
	return shorten(strings.TrimRight(message, ".!? "), maxMessage-len(separator)-len(advice)) + separator + advice
}

// clip makes of any text a message that the API takes, and that no terminal acts on.
func clip(message string) string { return shorten(redact.Printable(message), maxMessage) }

// shorten cuts a message to so many bytes, at a character's boundary.
func shorten(message string, most int) string {
	if len(message) <= most {
		return message
	}
	const ellipsis = "…"
	cut := 0
	for i := range message {
		if i > most-len(ellipsis) {
			break
		}
		cut = i
	}
	return message[:cut] + ellipsis
}

// formatRate writes bytes per second in binary units, as "412 MiB/s".
func formatRate(rate int64) string {
	units := []string{"B/s", "KiB/s", "MiB/s", "GiB/s", "TiB/s"}
	value, unit := float64(rate), 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if value < 10 && unit > 0 {
		return fmt.Sprintf("%.1f %s", value, units[unit])
	}
	return fmt.Sprintf("%.0f %s", value, units[unit])
}
