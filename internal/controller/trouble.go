package controller

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

const (
	// manyRestarts is from how many on a container that is not ready counts as one
	// that ends again and again, whatever it does at the moment: the kubelet's
	// CrashLoopBackOff alternates with running, and each change would be a write.
	manyRestarts = 3
	// maxContainerName is the longest name that the API server takes in a Pod's spec.
	maxContainerName = 63
)

// targetOf is the node that a Pod is bound to or, of a DaemonSet's Pod that no node
// has room for, meant for; empty if neither is known.
func targetOf(pod *corev1.Pod) string {
	affinity := pod.Spec.Affinity
	if pod.Spec.NodeName != "" || affinity == nil || affinity.NodeAffinity == nil || affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return pod.Spec.NodeName
	}
	for _, term := range affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, field := range term.MatchFields {
			if field.Key == metav1.ObjectNameField && field.Operator == corev1.NodeSelectorOpIn && len(field.Values) == 1 {
				return field.Values[0]
			}
		}
	}
	return ""
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// tellsMore orders the Pods of a node that has no ready one by what they say of that.
func tellsMore(a, b *corev1.Pod) bool {
	rank := func(pod *corev1.Pod) int {
		switch {
		case ended(pod):
			return 3
		case !pod.DeletionTimestamp.IsZero():
			return 2
		case pod.Spec.NodeName == "":
			return 1
		default:
			return 0
		}
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name)) < 0
}

// troubleOf says what is wrong with an agent's Pod that is not ready. It quotes no
// text of the node, which is not to be trusted more than the agent on it, and
// changes only if the Pod does, not with the time.
func troubleOf(pod *corev1.Pod) string {
	var text string
	switch {
	case ended(pod):
		text = "its agent's Pod has ended"
	case !pod.DeletionTimestamp.IsZero():
		text = "its agent's Pod is being deleted"
	case pod.Spec.NodeName == "":
		text = "its agent's Pod cannot be scheduled"
	default:
		text = cmp.Or(containerTrouble(pod), notReady(pod))
	}
	return fmt.Sprintf("%s (%s)", text, pod.Name)
}

func notReady(pod *corev1.Pod) string {
	if pod.Status.Phase == corev1.PodPending {
		return "its agent's Pod is Pending"
	}
	if _, since := podReady(pod); !since.IsZero() {
		return "its agent's Pod is not ready since " + since.UTC().Format(time.RFC3339)
	}
	return "its agent's Pod is not ready"
}

// containerTrouble is about the first container that cannot run; empty if all can.
func containerTrouble(pod *corev1.Pod) string {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			status := &statuses[i]
			if what := whatAils(status); what != "" {
				return fmt.Sprintf("its agent's container %s %s", shorten(redact.Printable(status.Name), maxContainerName), what)
			}
		}
	}
	return ""
}

func whatAils(status *corev1.ContainerStatus) string {
	waits := ""
	if status.State.Waiting != nil {
		waits = status.State.Waiting.Reason
	}
	last := cmp.Or(status.State.Terminated, status.LastTerminationState.Terminated)
	switch {
	case status.Ready, status.State.Terminated != nil && status.State.Terminated.ExitCode == 0:
		return ""
	case waits == "ErrImagePull", waits == "ImagePullBackOff", waits == "InvalidImageName", waits == "ErrImageNeverPull":
		return "waits for its container image, which cannot be pulled"
	case strings.HasPrefix(waits, "Create"), waits == "RunContainerError", waits == "StartError":
		return "cannot be started"
	case last != nil && (waits == "CrashLoopBackOff" || status.RestartCount >= manyRestarts):
		return "ends again and again (CrashLoopBackOff), last " + endOf(last)
	case last != nil:
		return "is not ready, and ended last " + endOf(last)
	default:
		return ""
	}
}

func endOf(last *corev1.ContainerStateTerminated) string {
	if last.Reason == "OOMKilled" {
		return "because it ran out of memory (OOMKilled)"
	}
	return fmt.Sprintf("with exit code %d", last.ExitCode)
}

// keepTrouble is what troubleOf needs of a Pod's status: nothing but one condition
// of a Pod that is ready, as nearly all are.
func keepTrouble(status *corev1.PodStatus) corev1.PodStatus {
	kept := corev1.PodStatus{Phase: status.Phase}
	ready := false
	for _, c := range status.Conditions {
		if c.Type == corev1.PodReady {
			ready = c.Status == corev1.ConditionTrue
			kept.Conditions = append(kept.Conditions, corev1.PodCondition{Type: c.Type, Status: c.Status, LastTransitionTime: c.LastTransitionTime})
		}
	}
	if !ready {
		kept.InitContainerStatuses = keepContainers(status.InitContainerStatuses)
		kept.ContainerStatuses = keepContainers(status.ContainerStatuses)
	}
	return kept
}

func keepContainers(statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	ended := func(t *corev1.ContainerStateTerminated) *corev1.ContainerStateTerminated {
		if t == nil {
			return nil
		}
		return &corev1.ContainerStateTerminated{Reason: t.Reason, ExitCode: t.ExitCode}
	}
	var kept []corev1.ContainerStatus
	for i := range statuses {
		s := &statuses[i]
		k := corev1.ContainerStatus{Name: s.Name, Ready: s.Ready, RestartCount: s.RestartCount}
		if s.State.Waiting != nil {
			k.State.Waiting = &corev1.ContainerStateWaiting{Reason: s.State.Waiting.Reason}
		}
		k.State.Terminated, k.LastTerminationState.Terminated = ended(s.State.Terminated), ended(s.LastTerminationState.Terminated)
		kept = append(kept, k)
	}
	return kept
}
