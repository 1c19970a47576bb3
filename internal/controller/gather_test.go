package controller

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

func TestJoinAgents(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pod := func(node string, ready corev1.ConditionStatus, edit func(*corev1.Pod)) corev1.Pod {
		p := corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "agent-x"}, Spec: corev1.PodSpec{NodeName: node},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
				{Type: corev1.PodReady, Status: ready, LastTransitionTime: metav1.Time{Time: since}},
			}},
		}
		if edit != nil {
			edit(&p)
		}
		return p
	}
	agent := func(ready bool, since time.Time, trouble string) Node {
		return Node{Name: "n", UID: "u", HasAgent: true, AgentReady: ready, NotReadySince: since, AgentTrouble: trouble}
	}
	meantFor := func(node string) func(*corev1.Pod) { // as the DaemonSet controller does
		return func(p *corev1.Pod) {
			fields := []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: fields}},
			}}}
			p.Status = corev1.PodStatus{Phase: corev1.PodPending}
		}
	}
	const leaving = "its agent's Pod is being deleted (agent-x)"
	for name, tt := range map[string]struct {
		pods []corev1.Pod
		want Node
	}{
		"no pod":          {nil, Node{Name: "n", UID: "u"}},
		"of another node": {[]corev1.Pod{pod("m", corev1.ConditionTrue, nil)}, Node{Name: "n", UID: "u"}},
		"ready":           {[]corev1.Pod{pod("n", corev1.ConditionTrue, nil)}, agent(true, time.Time{}, "")},
		"not ready": {
			[]corev1.Pod{pod("n", corev1.ConditionFalse, nil)}, agent(false, since, "its agent's Pod is not ready since 2026-01-02T03:04:05Z (agent-x)"),
		},
		"failed": {
			[]corev1.Pod{pod("n", corev1.ConditionTrue, func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })},
			Node{Name: "n", UID: "u", AgentTrouble: "its agent's Pod has ended (agent-x)"},
		},
		"not scheduled": {
			[]corev1.Pod{pod("", corev1.ConditionFalse, meantFor("n"))}, Node{Name: "n", UID: "u", AgentTrouble: "its agent's Pod cannot be scheduled (agent-x)"},
		},
		"not scheduled, for another node": {[]corev1.Pod{pod("", corev1.ConditionFalse, meantFor("m"))}, Node{Name: "n", UID: "u"}},
		"not scheduled, for any node":     {[]corev1.Pod{pod("", corev1.ConditionFalse, nil)}, Node{Name: "n", UID: "u"}},
		"on its way out, and the next one not scheduled": {
			[]corev1.Pod{pod("n", corev1.ConditionFalse, func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: since} }), pod("", corev1.ConditionFalse, meantFor("n"))},
			agent(false, since, "its agent's Pod cannot be scheduled (agent-x)"),
		},
		"on its way out": {
			[]corev1.Pod{pod("n", corev1.ConditionTrue, func(p *corev1.Pod) {
				p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: since.Add(time.Hour + 30*time.Second)}, new(int64(30))
			})}, agent(false, since.Add(time.Hour), leaving), // and not since it became ready: that would make it unavailable at once
		},
		"not ready and on its way out": {
			[]corev1.Pod{pod("n", corev1.ConditionFalse, func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: since.Add(time.Hour)} })}, agent(false, since, leaving),
		},
		"old and new": {[]corev1.Pod{pod("n", corev1.ConditionTrue, nil), pod("n", corev1.ConditionFalse, nil)}, agent(true, time.Time{}, "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u"}}
			if diff := cmp.Diff([]Node{tt.want}, joinAgents([]metav1.PartialObjectMetadata{object}, asCached(t, tt.pods))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// asCached is what the manager's cache keeps of Pods.
func asCached(t *testing.T, pods []corev1.Pod) []corev1.Pod {
	t.Helper()
	kept := make([]corev1.Pod, len(pods))
	for i := range pods {
		object, err := stripPod(&pods[i])
		pod, ok := object.(*corev1.Pod)
		if err != nil || !ok {
			t.Fatalf("a Pod became a %T: %v", object, err)
		}
		kept[i] = *pod
	}
	return kept
}

// TestAssumedCoversAStaleInformer: a granted slot that the informer does not show
// yet must not look free.
func TestAssumedCoversAStaleInformer(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	cache := func(uid string, generation int64) *v1alpha1.NodeImageCache {
		return &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: types.UID(uid), Generation: generation}}
	}
	for name, tt := range map[string]struct {
		shown  *v1alpha1.NodeImageCache
		after  time.Duration
		want   int64 // generation that the plan sees; 0 for no object
		forgot bool
	}{
		"not shown yet":        {nil, time.Second, 3, false},
		"never shown":          {nil, time.Hour, 0, true},
		"shown older":          {cache("u", 2), time.Second, 3, false},
		"caught up":            {cache("u", 3), time.Second, 3, true},
		"shown newer":          {cache("u", 4), time.Second, 4, true},
		"another object":       {cache("v", 1), time.Second, 1, true},
		"shown older for ages": {cache("u", 2), time.Hour, 2, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAssumed()
			a.remember(cache("u", 3), now, assumedFor)
			s := Snapshot{Caches: map[string]*v1alpha1.NodeImageCache{}}
			if tt.shown != nil {
				s.Caches["n"] = tt.shown
			}
			if next := a.overlay(s, now.Add(tt.after)); next.IsZero() != tt.forgot {
				t.Errorf("the belief ends at %s", next)
			}
			got := int64(0)
			if s.Caches["n"] != nil {
				got = s.Caches["n"].Generation
			}
			if got != tt.want || (len(a.objects) == 0) != tt.forgot {
				t.Errorf("the plan sees generation %d, want %d; forgotten: %v", got, tt.want, len(a.objects) == 0)
			}
		})
	}
}
