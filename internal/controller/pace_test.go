package controller

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestOnlyNumbersWait: what a person or a tool waits for is written at once.
func TestOnlyNumbersWait(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	status := v1alpha1.CloudImageStatus{
		ObservedGeneration: 1, Digest: digestA, Nodes: v1alpha1.NodeCounts{Desired: 9, Ready: 3, Pulling: 6}, Throughput: "1 MiB/s",
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: "Pulling", Message: "3 of 9"}},
	}
	tests := []struct {
		name  string
		edit  func(*v1alpha1.CloudImageStatus)
		waits bool
	}{
		{"counts and texts", func(s *v1alpha1.CloudImageStatus) {
			s.Nodes.Ready, s.Nodes.Pulling, s.Throughput, s.Conditions[0].Message = 4, 5, "2 MiB/s", "4 of 9"
		}, true},
		{"a failed node", func(s *v1alpha1.CloudImageStatus) { s.Nodes.Failed++ }, false},
		{"which node failed", func(s *v1alpha1.CloudImageStatus) { s.Failures = []v1alpha1.NodeFailure{{Node: "n"}} }, false},
		{"a condition", func(s *v1alpha1.CloudImageStatus) { s.Conditions[0].Status = metav1.ConditionTrue }, false},
		{"a reason", func(s *v1alpha1.CloudImageStatus) { s.Conditions[0].Reason = "Warmed" }, false},
		{"a generation", func(s *v1alpha1.CloudImageStatus) { s.ObservedGeneration = 2 }, false},
		{"a digest", func(s *v1alpha1.CloudImageStatus) { s.Digest = digestB }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			image := &v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{UID: "u"}, Status: status}
			next := status.DeepCopy()
			tt.edit(next)
			p := pace{}
			if due := p.due(image, next, now); due != now {
				t.Errorf("the first one waits until %s", due)
			}
			p.wrote(image, &image.Status, now)
			want := now.Add(time.Second)
			if tt.waits {
				want = now.Add(statusRest)
			}
			if due := p.due(image, next, now.Add(time.Second)); due != want {
				t.Errorf("due at %s, want %s", due, want)
			}
			other := &v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{UID: "other"}}
			p.wrote(other, &other.Status, now.Add(newsBurst*newsEvery))
			if len(p) != 1 {
				t.Errorf("%d images are remembered", len(p))
			}
		})
	}
}
