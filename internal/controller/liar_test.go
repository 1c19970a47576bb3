package controller

import (
	"math"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// rollOn lets every granted node but one succeed at once, and the one do as it
// likes each minute, until all others are ready; it returns how long that took.
func rollOn(t *testing.T, w *world, liar string, lie func(s *v1alpha1.ImageStatus, minute int)) time.Duration {
	t.Helper()
	for minute := range 24 * 60 {
		for _, node := range w.granted("debian") {
			if node != liar {
				w.report(node, "debian", ready(digestA))
			}
		}
		w.report(liar, "debian", func(s *v1alpha1.ImageStatus) { lie(s, minute) })
		w.settle()
		if w.s.Images[0].Status.Nodes.Ready >= int32(len(w.s.Nodes)-1) {
			return time.Duration(minute) * time.Minute
		}
		w.now = w.now.Add(time.Minute)
	}
	t.Fatalf("after a day %+v; %v hold the slots", w.s.Images[0].Status.Nodes, w.granted("debian"))
	return 0
}

// TestLiarKeepsNoSlot: the only slot of an image, and a node that wants to keep it.
func TestLiarKeepsNoSlot(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(s *v1alpha1.ImageStatus, minute int){
		"a byte each nine minutes": func(s *v1alpha1.ImageStatus, minute int) {
			s.State, s.Attempts, s.BytesCompleted = v1alpha1.StatePulling, math.MinInt32, int64(1+minute/9)
		},
		"wins every turn": func(s *v1alpha1.ImageStatus, _ int) { s.State, s.Attempts = v1alpha1.StatePulling, math.MinInt32 },
		"sums that overflow": func(s *v1alpha1.ImageStatus, minute int) {
			s.State, s.BytesCompleted, s.BytesHashed = v1alpha1.StatePulling, math.MaxInt64, math.MaxInt64-int64(minute)
		},
		"waits for room, and never tried": func(s *v1alpha1.ImageStatus, _ int) {
			s.State, s.Reason, s.Attempts = v1alpha1.StateFailed, v1alpha1.ReasonInsufficientSpace, math.MinInt32
		},
		"tries again and again": func(s *v1alpha1.ImageStatus, _ int) {
			s.State, s.Reason, s.Attempts = v1alpha1.StateFailed, v1alpha1.ReasonSourceUnavailable, math.MinInt32
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := limited(t, 8, 1)
			if took := rollOn(t, w, w.granted("debian")[0], lie); took > 20*time.Minute {
				t.Errorf("the others waited for %s", took)
			}
		})
	}
}

// TestWaitingLiarAndHonestNodesThatWait share the slot: the disks of all others are full for an hour.
func TestWaitingLiarAndHonestNodesThatWait(t *testing.T) {
	t.Parallel()
	w, _ := limited(t, 4, 1)
	liar := w.granted("debian")[0]
	turns := map[string]int{}
	for range 6 * 60 {
		granted := w.granted("debian")
		if len(granted) > 1 {
			t.Fatalf("%v have the one slot", granted)
		}
		for _, node := range granted {
			turns[node]++
			w.report(node, "debian", failed(v1alpha1.ReasonInsufficientSpace))
		}
		w.report(liar, "debian", func(s *v1alpha1.ImageStatus) {
			s.State, s.Reason, s.Attempts = v1alpha1.StateFailed, v1alpha1.ReasonInsufficientSpace, 0
		})
		w.settle()
		w.now = w.now.Add(time.Minute)
	}
	for _, node := range w.s.Nodes {
		if turns[node.Name] < 10 {
			t.Errorf("in six hours %s had the slot for %d minutes of %v", node.Name, turns[node.Name], turns)
		}
	}
}

// TestLiarTakesNoRetryOfOthers: one failed node always wants the next attempt for itself.
func TestLiarTakesNoRetryOfOthers(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(s *v1alpha1.ImageStatus){
		"the Secret changed":              func(s *v1alpha1.ImageStatus) { s.Reason = v1alpha1.ReasonCredentialsChanged },
		"the Secret changed, never tried": func(s *v1alpha1.ImageStatus) { s.Reason, s.Retry, s.Attempts = v1alpha1.ReasonCredentialsChanged, 0, 0 },
		"never tried": func(s *v1alpha1.ImageStatus) {
			s.Reason, s.Retry, s.Attempts = v1alpha1.ReasonNotFound, 0, math.MinInt32
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := broken(t, 3, v1alpha1.ReasonNotFound)
			liar, tries := "node-000", map[string]int{}
			for range 5 * 60 {
				for _, node := range w.retrying("debian") {
					if tries[node]++; node != liar {
						w.report(node, "debian", failed(v1alpha1.ReasonNotFound))
					}
				}
				w.report(liar, "debian", failed(v1alpha1.ReasonNotFound))
				lie(reportedIn(w.s.Caches[liar], "debian"))
				w.settle()
				w.now = w.now.Add(time.Minute)
			}
			for _, node := range []string{"node-001", "node-002"} {
				if tries[node] == 0 {
					t.Errorf("%s never tried again, while %s did: %v", node, liar, tries)
				}
			}
		})
	}
}

// TestEnoughToKeepASlot tables how many bytes a node needs in ten minutes, or in five while no digest is known.
func TestEnoughToKeepASlot(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		digest, limit string
		want          int64
	}{
		"no limit":          {digestA, "", 1 << 20},
		"high limit":        {digestA, "50Mi", 1 << 20},
		"low limit":         {digestA, "1Ki", 300 << 10},
		"lowest limit":      {digestA, "1", 300},
		"first node":        {"", "", 1 << 19},
		"first, low limit":  {"", "1Ki", 150 << 10},
		"limit of nonsense": {digestA, "-5", 1},
		"largest limit":     {digestA, "8Ei", 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			order := &v1alpha1.AssignedImage{Digest: tt.digest}
			if tt.limit != "" {
				limit := resource.MustParse(tt.limit)
				order.Download.MaxBytesPerSecond = &limit
			}
			if got := enough(order); got != tt.want {
				t.Errorf("%d bytes are enough, want %d", got, tt.want)
			}
		})
	}
}

// TestSlowPullsKeepTheirSlots at two thirds of their own limit, and at twice the rate that is asked of all.
func TestSlowPullsKeepTheirSlots(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limit string
		rate  int64 // bytes a minute
		keeps bool
	}{
		"a limit of 300 B/s":      {"300", 200 * 60, true},
		"far below the limit":     {"300", 100 * 60, false},
		"no limit, 3.5 KiB/s":     {"", 3584 * 60, true},
		"no limit, 1 KiB/s":       {"", 1024 * 60, false},
		"a high limit, 3.5 KiB/s": {"1Gi", 3584 * 60, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, image := limited(t, 2, 1)
			if tt.limit != "" {
				limit := resource.MustParse(tt.limit)
				image.Spec.Download.MaxBytesPerSecond = &limit
				w.settle()
			}
			first := w.granted("debian")[0]
			for minute := range int64(90) {
				w.report(first, "debian", func(s *v1alpha1.ImageStatus) {
					s.State, s.Attempts, s.BytesCompleted = v1alpha1.StatePulling, 1, minute*tt.rate
				})
				w.settle()
				w.now = w.now.Add(time.Minute)
				if kept := slices.Contains(w.granted("debian"), first); !kept {
					if tt.keeps {
						t.Errorf("the slot was lost after %d minutes", minute)
					}
					return
				}
			}
			if !tt.keeps {
				t.Error("the slot was kept for 90 minutes")
			}
		})
	}
}

// TestLiarForgivesNoFailures: a node that holds the image, loses it and holds it again all the time is no proof that others will succeed.
func TestLiarForgivesNoFailures(t *testing.T) {
	t.Parallel()
	for name, granted := range map[string]bool{"in its turn": true, "without a turn": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := limited(t, 30, 3)
			liar := "node-000"
			for _, node := range w.s.Nodes {
				if slices.Contains(w.granted("debian"), node.Name) == granted {
					liar = node.Name
				}
			}
			failures := map[string]bool{}
			for i := range 40 {
				for _, node := range w.granted("debian") {
					if node != liar && !failures[node] {
						failures[node] = true
						w.report(node, "debian", failed(v1alpha1.ReasonInvalidSource))
					}
				}
				w.report(liar, "debian", ready(digestA))
				if i%2 == 1 {
					w.report(liar, "debian", func(s *v1alpha1.ImageStatus) { s.State, s.Digest = v1alpha1.StatePulling, "" })
				}
				w.settle()
				w.now = w.now.Add(time.Minute)
			}
			if len(failures) > 9 {
				t.Errorf("%d nodes were let fail, though 3 stop a rollout", len(failures))
			}
		})
	}
}
