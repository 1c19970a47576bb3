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
	// noReason stands for the reason of an agent that gives none: the API server
	// takes no status without.
	noReason = "Unknown"
)

// summarize is the status of an image that is not being deleted: what its nodes
// report, and what was decided for it.
func summarize(v *imageView, r *rollout, now time.Time) v1alpha1.CloudImageStatus {
	old := &v.image.Status
	status := v1alpha1.CloudImageStatus{
		ObservedGeneration:     v.image.Generation,
		Revision:               v.revision,
		LastHandledRequestedAt: shorten(v.image.Annotations[v1alpha1.RequestedAtAnnotation], maxMessage), // as it is: it is compared
		Digest:                 cmp.Or(v.digest, r.pin),
		Nodes:                  countNodes(v),
		Failures:               failuresOf(v),
	}
	describeBytes(&status, v)
	describeThroughput(&status, v)
	judged := judge(v, r, &status)
	setConditions(&status, judged, v.image, now)
	status.LastWarmedTime = old.LastWarmedTime.DeepCopy()
	if judged.reason == v1alpha1.ReasonWarmed && !warmedBefore(v) {
		status.LastWarmedTime = &metav1.Time{Time: now.Truncate(time.Second)}
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

// failuresOf names the first failed nodes by name, those that failed for good first.
func failuresOf(v *imageView) []v1alpha1.NodeFailure {
	var failed []*nodeView
	for i := range v.nodes {
		if v.nodes[i].state == nodeFailed {
			failed = append(failed, &v.nodes[i])
		}
	}
	slices.SortStableFunc(failed, func(a, b *nodeView) int {
		return int(classOf(b.status.Reason)) - int(classOf(a.status.Reason))
	})
	var failures []v1alpha1.NodeFailure
	for _, n := range failed[:min(len(failed), maxFailures)] {
		failures = append(failures, v1alpha1.NodeFailure{
			Node: n.node.Name, Reason: cmp.Or(n.status.Reason, noReason), Message: explain(n.status),
		})
	}
	return failures
}

// explain says what happened on a node and what to do about it.
func explain(status *v1alpha1.ImageStatus) string {
	advice := adviceFor(status.Reason)
	if advice == "" {
		return clip(status.Message)
	}
	const separator = ". "
	if status.Message == "" {
		return advice
	}
	message := strings.TrimRight(redact.Printable(status.Message), ".!? ")
	return shorten(message, maxMessage-len(separator)-len(advice)) + separator + advice
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

// describeBytes says what the image is, from any node that holds it; while none
// does, what was known of the same revision stays.
func describeBytes(status *v1alpha1.CloudImageStatus, v *imageView) {
	if old := &v.image.Status; old.Revision == v.revision {
		status.SizeBytes, status.Format, status.VirtualSizeBytes = old.SizeBytes, old.Format, old.VirtualSizeBytes
	}
	for i := range v.nodes {
		if n := &v.nodes[i]; n.state == nodeReady {
			status.SizeBytes, status.Format = clamp(n.status.SizeBytes, v1alpha1.MaxBytes), n.status.Format
			status.VirtualSizeBytes = clamp(n.status.VirtualSizeBytes, v1alpha1.MaxBytes)
			return
		}
	}
}

// describeThroughput is over the last pulls of the nodes that are ready. A node
// that adopted its bytes pulled nothing and does not count.
func describeThroughput(status *v1alpha1.CloudImageStatus, v *imageView) {
	var rates v1alpha1.Throughput
	var sum, count int64
	for i := range v.nodes {
		n := &v.nodes[i]
		if n.state != nodeReady || n.status.AverageBytesPerSecond <= 0 {
			continue
		}
		rate := n.status.AverageBytesPerSecond
		if count == 0 || rate < rates.Min {
			rates.Min = rate
		}
		rates.Max = max(rates.Max, rate)
		sum += rate
		count++
	}
	if count == 0 {
		return
	}
	rates.Mean = sum / count
	status.ThroughputBytesPerSecond = &rates
	status.Throughput = formatRate(rates.Mean)
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
