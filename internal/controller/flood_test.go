package controller

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// statusServer takes the statuses that a planner writes, and the events of it.
type statusServer struct {
	client.Client

	mu     sync.Mutex
	writes map[string]*v1alpha1.CloudImageStatus // the last one of each image
	count  int
	events map[string]int // by kind of event: of a failure, or of the image
}

func (s *statusServer) Status() client.SubResourceWriter { return statusWriter{of: s} }

type statusWriter struct {
	client.SubResourceWriter

	of *statusServer
}

func (w statusWriter) Patch(_ context.Context, object client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
	s := w.of
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	s.writes[object.GetName()] = object.(*v1alpha1.CloudImage).Status.DeepCopy()
	return nil
}

func (s *statusServer) Eventf(_, _ runtime.Object, _, _, action, _ string, _ ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events[action]++
}

// written is a world whose statuses a planner writes in its own time.
type written struct {
	*world
	server  *statusServer
	planner *Planner
	orders  int // how many objects of nodes got new ones
}

func newWritten(t *testing.T, nodes, images int) *written {
	t.Helper()
	w := &written{world: newWorld(t, nodes), server: &statusServer{writes: map[string]*v1alpha1.CloudImageStatus{}, events: map[string]int{}}}
	for i := range images {
		image := w.apply(fmt.Sprintf("image-%02d", i), nil)
		image.UID = types.UID(image.Name)
	}
	w.planner = &Planner{Client: w.server, Now: func() time.Time { return w.now }, Events: w.server, written: newAssumed(), statuses: pace{}}
	return w
}

// step is a pass whose statuses only the planner's writes change; it returns what
// a pass would have said at once.
func (w *written) step() map[string]*v1alpha1.CloudImageStatus {
	w.t.Helper()
	before := map[string]v1alpha1.CloudImageStatus{}
	for _, image := range w.s.Images {
		before[image.Name] = image.Status
	}
	w.pass()
	w.orders += len(w.plan.Update)
	current := map[string]*v1alpha1.CloudImageStatus{}
	for _, image := range w.s.Images {
		current[image.Name] = image.Status.DeepCopy()
		image.Status = before[image.Name]
	}
	if _, err := w.planner.writeStatuses(w.t.Context(), &w.plan, w.s); err != nil {
		w.t.Fatal(err)
	}
	for _, image := range w.s.Images {
		if status := w.server.writes[image.Name]; status != nil {
			image.Status = *status
		}
	}
	return current
}

// TestFloodOfOneNode: whatever a node reports in each pass, its writes and events are bounded.
func TestFloodOfOneNode(t *testing.T) {
	t.Parallel()
	const images, minutes = 3, 5
	known := append(pullReasons(), v1alpha1.ReasonCredentialsChanged)
	for name, lie := range map[string]func(s *v1alpha1.ImageStatus, pass int){
		"a new reason each time": func(s *v1alpha1.ImageStatus, pass int) {
			s.State, s.Reason, s.Message = v1alpha1.StateFailed, fmt.Sprintf("Flood%d", pass), fmt.Sprint(pass)
		},
		"the documented reasons in turns": func(s *v1alpha1.ImageStatus, pass int) {
			s.State, s.Reason, s.Message = v1alpha1.StateFailed, known[pass%len(known)], fmt.Sprint(pass)
		},
		"failed and not": func(s *v1alpha1.ImageStatus, pass int) {
			s.State, s.Reason = []v1alpha1.ImageState{v1alpha1.StateFailed, v1alpha1.StatePulling}[pass%2], v1alpha1.ReasonNotFound
		},
		"ready and not": func(s *v1alpha1.ImageStatus, pass int) {
			ready(digestA)(s)
			s.State = []v1alpha1.ImageState{v1alpha1.StateReady, v1alpha1.StatePulling}[pass%2]
		},
		"another size and rate": func(s *v1alpha1.ImageStatus, pass int) {
			ready(digestA)(s)
			s.SizeBytes, s.AverageBytesPerSecond = int64(pass), int64(pass)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWritten(t, 2, images)
			w.step()
			for _, image := range w.s.Images {
				w.report("node-001", image.Name, ready(digestA))
			}
			w.step()
			atFirst := w.server.count
			w.orders = 0
			w.server.events = map[string]int{}
			for pass := range minutes * 60 * 5 { // a pass each 200 ms, as fast as they come
				for _, image := range w.s.Images {
					w.report("node-000", image.Name, func(s *v1alpha1.ImageStatus) { lie(s, pass) })
				}
				w.step()
				w.now = w.now.Add(coalesce)
			}
			perImage, failures := (w.server.count-atFirst)/images, w.server.events["Pull"]/images
			t.Logf("for each image in %d minutes: %d writes, %d events of failures, %d others; %d orders",
				minutes, perImage, failures, w.server.events["Rollout"]/images, w.orders)
			if most := newsBurst + minutes*6 + 2; perImage > most {
				t.Errorf("%d writes, want at most %d", perImage, most)
			}
			if failures > minutes {
				t.Errorf("%d events of one node's failures, want at most %d", failures, minutes)
			}
			if most := newsBurst + minutes*6 + 2; w.server.events["Rollout"]/images > most {
				t.Errorf("%d other events, want at most %d", w.server.events["Rollout"]/images, most)
			}
			if w.orders > 2*minutes {
				t.Errorf("%d orders were written", w.orders)
			}
		})
	}
}

// TestHonestRolloutIsToldInTime: 200 nodes, a tenth of which fail once, and what is written is never far behind.
func TestHonestRolloutIsToldInTime(t *testing.T) {
	t.Parallel()
	w := newWritten(t, 200, 1)
	w.step()
	image := w.s.Images[0]
	behind, firstFailure, onceFailed := map[string]time.Duration{}, false, map[string]bool{}
	for pass := 0; image.Status.Nodes.Ready < 200; pass++ {
		if pass > 10_000 {
			t.Fatalf("not warm: %+v", image.Status.Nodes)
		}
		for i, node := range w.granted(image.Name) {
			switch fails := turn(node)%10 == 0 && !onceFailed[node]; {
			case (pass+i)%7 != 0:
			case fails:
				onceFailed[node] = true
				w.report(node, image.Name, failed(v1alpha1.ReasonSourceUnavailable))
			default:
				w.report(node, image.Name, ready(digestA))
			}
		}
		now := w.step()[image.Name]
		if len(now.Failures) > 0 && !firstFailure {
			if firstFailure = true; len(image.Status.Failures) == 0 {
				t.Error("the first failure is not told at once")
			}
		}
		for what, differs := range map[string]bool{
			"ready": now.Nodes.Ready > image.Status.Nodes.Ready, "Ready": readyOf(now).Status != readyOf(&image.Status).Status,
			"failures": len(now.Failures) != len(image.Status.Failures),
		} {
			if !differs {
				behind[what] = 0
				continue
			}
			if behind[what] += coalesce; behind[what] > statusRest {
				t.Errorf("%s is behind for %s: %+v, and %+v is written", what, behind[what], now.Nodes, image.Status.Nodes)
			}
		}
		w.now = w.now.Add(coalesce)
	}
	if !firstFailure || w.server.events["Pull"] == 0 {
		t.Error("nothing failed")
	}
}

// TestFailureEvents tables what is told of failures: one of a node and minute, and ten of an image.
func TestFailureEvents(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f := &failureEvents{}
	tell := func(image types.UID, node string, after time.Duration, want bool) {
		t.Helper()
		if got := f.tell(image, node, now.Add(after)); got != want {
			t.Errorf("after %s, %s on %s: told %v, want %v", after, image, node, got, want)
		}
	}
	tell("a", "n0", 0, true)
	tell("a", "n0", time.Second, false)
	tell("b", "n0", time.Second, true)
	for i := 1; i < failureEventBurst; i++ {
		tell("a", fmt.Sprintf("n%d", i), time.Second, true)
	}
	tell("a", "another", time.Second, false)
	tell("b", "another", time.Second, true)
	tell("a", "another", 7*time.Second, true)
	tell("a", "n0", 59*time.Second, false)
	tell("a", "n0", 60*time.Second, true)
	tell("b", "n0", time.Hour, true)
	if len(f.told) != 1 || len(f.images) != 1 {
		t.Errorf("%d failures and %d images are remembered", len(f.told), len(f.images))
	}
}
