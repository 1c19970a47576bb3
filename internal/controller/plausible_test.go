package controller

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestPlausible tables reports and what is believed of them.
func TestPlausible(t *testing.T) {
	t.Parallel()
	honest := v1alpha1.ImageStatus{
		Name: "debian", Revision: "r", State: v1alpha1.StatePulling, SizeBytes: 3 << 30, VirtualSizeBytes: 20 << 30, BytesCompleted: 1 << 30,
		BytesHashed: 1 << 20, ResumedBytes: 1 << 20, AverageBytesPerSecond: 5 << 30, Attempts: 3, Retry: 1, StartTime: &metav1.Time{},
	}
	for name, tt := range map[string]struct{ lie, want func(*v1alpha1.ImageStatus) }{
		"honest":                    {func(*v1alpha1.ImageStatus) {}, func(*v1alpha1.ImageStatus) {}},
		"attempts below zero":       {func(s *v1alpha1.ImageStatus) { s.Attempts = math.MinInt32 }, func(s *v1alpha1.ImageStatus) { s.Attempts = 0 }},
		"retry below zero":          {func(s *v1alpha1.ImageStatus) { s.Retry = -1 }, func(s *v1alpha1.ImageStatus) { s.Retry = 0 }},
		"bytes below zero":          {func(s *v1alpha1.ImageStatus) { s.BytesCompleted = -1000 }, func(s *v1alpha1.ImageStatus) { s.BytesCompleted = 0 }},
		"bytes beyond all measure":  {func(s *v1alpha1.ImageStatus) { s.BytesCompleted = math.MaxInt64 }, func(s *v1alpha1.ImageStatus) { s.BytesCompleted = mostBytes }},
		"hashed beyond all measure": {func(s *v1alpha1.ImageStatus) { s.BytesHashed = math.MaxInt64 }, func(s *v1alpha1.ImageStatus) { s.BytesHashed = mostBytes }},
		"resumed below zero":        {func(s *v1alpha1.ImageStatus) { s.ResumedBytes = math.MinInt64 }, func(s *v1alpha1.ImageStatus) { s.ResumedBytes = 0 }},
		"size below zero":           {func(s *v1alpha1.ImageStatus) { s.SizeBytes = -1 }, func(s *v1alpha1.ImageStatus) { s.SizeBytes = 0 }},
		"virtual size below zero":   {func(s *v1alpha1.ImageStatus) { s.VirtualSizeBytes = -1 }, func(s *v1alpha1.ImageStatus) { s.VirtualSizeBytes = 0 }},
		"rate of 2^62":              {func(s *v1alpha1.ImageStatus) { s.AverageBytesPerSecond = 1 << 62 }, func(s *v1alpha1.ImageStatus) { s.AverageBytesPerSecond = mostRate }},
		"rate below zero":           {func(s *v1alpha1.ImageStatus) { s.AverageBytesPerSecond = -5 }, func(s *v1alpha1.ImageStatus) { s.AverageBytesPerSecond = 0 }},
		"reason of its own":         {func(s *v1alpha1.ImageStatus) { s.Reason = "Flood17" }, func(s *v1alpha1.ImageStatus) { s.Reason = v1alpha1.ReasonUnknown }},
		"failed without a reason":   {func(s *v1alpha1.ImageStatus) { s.State = v1alpha1.StateFailed }, func(s *v1alpha1.ImageStatus) { s.State, s.Reason = v1alpha1.StateFailed, v1alpha1.ReasonUnknown }},
		"documented reason":         {func(s *v1alpha1.ImageStatus) { s.Reason = v1alpha1.ReasonNotFound }, func(s *v1alpha1.ImageStatus) { s.Reason = v1alpha1.ReasonNotFound }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reported, want := honest, honest
			tt.lie(&reported)
			tt.want(&want)
			before := reported
			got := plausible(&reported)
			if diff := cmp.Diff(&want, got); diff != "" {
				t.Error(diff)
			}
			if reported != before {
				t.Error("the report itself was changed, which is shared with the informer")
			}
			if (got == &reported) != (want == reported) {
				t.Errorf("copied: %v", got != &reported)
			}
		})
	}
}

// TestEveryReasonOfAnAgentIsDocumented, or the manager would not say it.
func TestEveryReasonOfAnAgentIsDocumented(t *testing.T) {
	t.Parallel()
	for _, reason := range append(pullReasons(), v1alpha1.ReasonCredentialsChanged) {
		reported := &v1alpha1.ImageStatus{State: v1alpha1.StateFailed, Reason: reason}
		if got := plausible(reported).Reason; got != reason {
			t.Errorf("%s becomes %s", reason, got)
		}
	}
}

// TestReasonsAndMessagesOfALiar from its report to the image's status.
func TestReasonsAndMessagesOfALiar(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	image := w.apply("debian", nil)
	w.settle()
	w.report("node-000", "debian", func(s *v1alpha1.ImageStatus) {
		s.State, s.Reason, s.Message = v1alpha1.StateFailed, "Owned", "\x1b[2Jgone\nnode-009  Ready"+strings.Repeat("\u202e", 200)
	})
	w.settle()
	failure := image.Status.Failures[0]
	if failure.Reason != v1alpha1.ReasonUnknown || !strings.HasSuffix(failure.Message, adviceFor(v1alpha1.ReasonUnknown)) ||
		!strings.HasPrefix(failure.Message, `\x1b[2Jgone\nnode-009  Ready\u202e`) || len(failure.Message) > maxMessage {
		t.Errorf("the image says %q: %q", failure.Reason, failure.Message)
	}
}
