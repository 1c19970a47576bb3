package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestTroubleOf reads Pods as kubelets report them, through what the manager's cache keeps.
func TestTroubleOf(t *testing.T) {
	t.Parallel()
	waits := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "back-off 2m40s"}}
	}
	exit := func(code int32, reason string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: "log"}}
	}
	runs := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	agent := func(state, last corev1.ContainerState, restarts int32) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{
			InitContainerStatuses: []corev1.ContainerStatus{{Name: "prepare-store", State: exit(0, "Completed")}},
			ContainerStatuses:     []corev1.ContainerStatus{{Name: "node-agent", State: state, LastTerminationState: last, RestartCount: restarts}},
		}}
	}
	const again = "its agent's container node-agent ends again and again (CrashLoopBackOff), last with exit code 1"
	for name, tt := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"it waits after a crash":  {agent(waits("CrashLoopBackOff"), exit(1, "Error"), 1), again},
		"it crashes often: waits": {agent(waits("CrashLoopBackOff"), exit(1, "Error"), 9), again},
		"it crashes often: runs":  {agent(runs, exit(1, "Error"), 10), again},
		"it crashes often: ended": {agent(exit(1, "Error"), exit(1, "Error"), 10), again},
		"it crashed once":         {agent(runs, exit(2, "Error"), 1), "its agent's container node-agent is not ready, and ended last with exit code 2"},
		"out of memory": {
			agent(waits("CrashLoopBackOff"), exit(137, "OOMKilled"), 4),
			"its agent's container node-agent ends again and again (CrashLoopBackOff), last because it ran out of memory (OOMKilled)",
		},
		"no image":             {agent(waits("ImagePullBackOff"), corev1.ContainerState{}, 0), "its agent's container node-agent waits for its container image, which cannot be pulled"},
		"no image, once more":  {agent(waits("ErrImagePull"), corev1.ContainerState{}, 0), "its agent's container node-agent waits for its container image, which cannot be pulled"},
		"no start":             {agent(waits("CreateContainerConfigError"), corev1.ContainerState{}, 0), "its agent's container node-agent cannot be started"},
		"a reason of the node": {agent(waits("Trust\x1b[2Jme"), corev1.ContainerState{}, 0), "its agent's Pod is not ready"},
		"an init container": {&corev1.Pod{Status: corev1.PodStatus{
			Phase: corev1.PodPending,
			InitContainerStatuses: []corev1.ContainerStatus{{
				Name: "prepare-store", State: waits("CrashLoopBackOff"), LastTerminationState: exit(1, "Error"), RestartCount: 2,
			}},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "node-agent", State: waits("PodInitializing")}},
		}}, "its agent's container prepare-store ends again and again (CrashLoopBackOff), last with exit code 1"},
		"a name of the node": {&corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
			Name: "\x1b[2J" + strings.Repeat("x", 100), State: waits("CreateContainerError"),
		}}}}, `its agent's container \x1b[2J` + strings.Repeat("x", 53) + "… cannot be started"},
		"created": {&corev1.Pod{Status: corev1.PodStatus{
			Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{Name: "node-agent", State: waits("ContainerCreating")}},
		}}, "its agent's Pod is Pending"},
		"its kubelet is away": {&corev1.Pod{Status: corev1.PodStatus{
			Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "node-agent", State: runs}},
			Conditions: []corev1.PodCondition{{
				Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Time{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
			}},
		}}, "its agent's Pod is not ready since 2026-01-02T03:04:05Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.pod.Name, tt.pod.Spec.NodeName = "agent-x", "n"
			got := troubleOf(&asCached(t, []corev1.Pod{*tt.pod})[0])
			if diff := cmp.Diff(tt.want+" (agent-x)", got); diff != "" {
				t.Error(diff)
			}
			if message := advise(got, adviceFor(v1alpha1.ReasonAgentUnavailable)); len(message) > maxMessage || !strings.Contains(message, "kubectl get pods") {
				t.Errorf("the message has %d bytes: %s", len(message), message)
			}
		})
	}
}

// TestAReadyPodIsKeptSmall: there are 5,000 of them.
func TestAReadyPodIsKeptSmall(t *testing.T) {
	t.Parallel()
	at := metav1.Time{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	pod := corev1.Pod{Spec: corev1.PodSpec{NodeName: "n", Affinity: &corev1.Affinity{}}, Status: corev1.PodStatus{
		Phase: corev1.PodRunning,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: at},
		},
		ContainerStatuses: []corev1.ContainerStatus{{Name: "node-agent", Ready: true, RestartCount: 4, Image: "image", ContainerID: "id"}},
	}}
	want := corev1.Pod{Spec: corev1.PodSpec{NodeName: "n"}, Status: corev1.PodStatus{
		Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: at}},
	}}
	if diff := cmp.Diff(want, asCached(t, []corev1.Pod{pod})[0]); diff != "" {
		t.Error(diff)
	}
}

// TestNodesThatAreAwayAreNamed: after the nodes that failed, and not as the reason of anything.
func TestNodesThatAreAwayAreNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 14)
	image := w.apply("debian", nil)
	w.settle()
	w.report("node-013", "debian", failed(v1alpha1.ReasonForbidden))
	for i := range 12 {
		w.s.Nodes[i].AgentReady, w.s.Nodes[i].AgentTrouble = false, "its agent's Pod is Pending (agent-x)"
	}
	w.report("node-012", "debian", ready(digestA))
	w.settle()
	if got := image.Status.Failures; len(got) != 1 {
		t.Errorf("before they count as away: %+v", got)
	}
	before := image.Status.DeepCopy()
	w.now = w.now.Add(unavailableAfter)
	w.settle()
	got := image.Status.Failures
	if len(got) != maxFailures || got[0].Node != "node-013" || got[1].Node != "node-000" || got[1].Reason != v1alpha1.ReasonAgentUnavailable ||
		!strings.HasPrefix(got[1].Message, "its agent's Pod is Pending (agent-x). ") {
		t.Errorf("failures: %+v", got)
	}
	if reason := readyOf(&image.Status).Reason; reason != v1alpha1.ReasonForbidden {
		t.Errorf("Ready says %s", reason)
	}
	for _, event := range transitions(before, &image.Status) {
		if event.reason == v1alpha1.ReasonAgentUnavailable {
			t.Errorf("an event for each image: %+v", event)
		}
	}
	// The only node that failed tries again: what is left in the list is no reason to stop.
	w.now = w.now.Add(probeEvery)
	w.settle()
	w.report("node-013", "debian", func(s *v1alpha1.ImageStatus) { s.State, s.Reason = v1alpha1.StatePulling, "" })
	w.settle()
	if ready := readyOf(&image.Status); ready.Reason != v1alpha1.ReasonForbidden || image.Status.Failures[0].Reason != v1alpha1.ReasonAgentUnavailable {
		t.Errorf("while it tries again: %s %s, first of %+v", ready.Status, ready.Reason, image.Status.Failures)
	}
}
