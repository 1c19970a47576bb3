package controller

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// checkKstatus holds a status, as every pass of a world writes it, to the rules
// that GitOps tools build on (kstatus), and to those of this API.
func checkKstatus(t *testing.T, image *v1alpha1.CloudImage) {
	t.Helper()
	status := &image.Status
	if status.ObservedGeneration != image.Generation {
		t.Errorf("%s: observedGeneration is %d, generation %d", image.Name, status.ObservedGeneration, image.Generation)
	}
	checkConditions(t, image)
	checkReady(t, image)
	checkCounts(t, image)
}

func checkConditions(t *testing.T, image *v1alpha1.CloudImage) {
	t.Helper()
	conditions := image.Status.Conditions
	known := []string{v1alpha1.ConditionReady, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled}
	for i, c := range conditions {
		if !slices.Contains(known, c.Type) || slices.ContainsFunc(conditions[:i], func(o metav1.Condition) bool { return o.Type == c.Type }) {
			t.Errorf("%s: condition %s is unknown, or there twice", image.Name, c.Type)
		}
		if c.Type != v1alpha1.ConditionReady && c.Status != metav1.ConditionTrue {
			t.Errorf("%s: %s exists and is %s", image.Name, c.Type, c.Status)
		}
		if c.ObservedGeneration != image.Generation || c.Reason == "" || c.Message == "" || c.LastTransitionTime.IsZero() {
			t.Errorf("%s: condition %+v", image.Name, c)
		}
	}
	if isTrue(conditions, v1alpha1.ConditionReconciling) && isTrue(conditions, v1alpha1.ConditionStalled) {
		t.Errorf("%s: Reconciling and Stalled at the same time", image.Name)
	}
}

// checkReady compares Ready with the other two, which tell a tool whether to go
// on waiting.
func checkReady(t *testing.T, image *v1alpha1.CloudImage) {
	t.Helper()
	reconciling := isTrue(image.Status.Conditions, v1alpha1.ConditionReconciling)
	stalled := isTrue(image.Status.Conditions, v1alpha1.ConditionStalled)
	ready := readyOf(&image.Status)
	good := false
	switch ready.Status {
	case metav1.ConditionTrue:
		warmed := ready.Reason == v1alpha1.ReasonWarmed && image.Status.LastWarmedTime != nil
		good = !reconciling && !stalled && (warmed || ready.Reason == v1alpha1.ReasonNoNodes)
	case metav1.ConditionFalse:
		good = stalled || (reconciling && ready.Reason == v1alpha1.ReasonRemoving)
	case metav1.ConditionUnknown:
		good = reconciling || (!stalled && ready.Reason == v1alpha1.ReasonSuspended)
	}
	if !good {
		t.Errorf("%s: conditions contradict each other: %+v", image.Name, image.Status.Conditions)
	}
	for _, c := range image.Status.Conditions {
		if c.Reason != ready.Reason {
			t.Errorf("%s: %s says %s, Ready %s", image.Name, c.Type, c.Reason, ready.Reason)
		}
	}
}

func checkCounts(t *testing.T, image *v1alpha1.CloudImage) {
	t.Helper()
	n := image.Status.Nodes
	if n.Ready+n.Pulling+n.Pending+n.Failed+n.Unavailable != n.Desired {
		t.Errorf("%s: counts do not add up: %+v", image.Name, n)
	}
	failures := image.Status.Failures
	if image.DeletionTimestamp.IsZero() && len(failures) != int(min(n.Failed+n.Unavailable, maxFailures)) {
		t.Errorf("%s: %d failures are told of %d, and %d agents that are away", image.Name, len(failures), n.Failed, n.Unavailable)
	}
	for _, failure := range failures {
		if failure.Node == "" || failure.Reason == "" || failure.Message == "" || len(failure.Message) > maxMessage {
			t.Errorf("%s: failure %+v", image.Name, failure)
		}
	}
}
