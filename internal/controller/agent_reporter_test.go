package controller

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// ownObject is an API server that has the object of one node, and counts the writes of its status.
type ownObject struct {
	client.Client
	object v1alpha1.NodeImageCache
	refuse error
	takes  time.Duration // for a write
	writes int
}

func (o *ownObject) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	o.object.DeepCopyInto(into.(*v1alpha1.NodeImageCache))
	return nil
}

func (o *ownObject) Status() client.SubResourceWriter { return ownStatus{of: o} }

type ownStatus struct {
	client.SubResourceWriter
	of *ownObject
}

func (s ownStatus) Patch(_ context.Context, object client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
	time.Sleep(s.of.takes)
	if s.of.refuse == nil {
		s.of.object.Status = object.(*v1alpha1.NodeImageCache).Status
		s.of.writes++
	}
	return s.of.refuse
}

func withReporter(t *testing.T, run func(m *memoryStore, server *ownObject, r *Reporter)) {
	t.Helper()
	withImages(t, 1, func(im *Images, m *memoryStore) {
		server := &ownObject{object: v1alpha1.NodeImageCache{Spec: v1alpha1.NodeImageCacheSpec{NodeUID: "u"}}}
		run(m, server, &Reporter{
			Client: server, Node: "n", Version: "v1", Store: m, Images: im, Metrics: NewAgentMetrics(prometheus.NewRegistry()),
			Now: time.Now, Random: func() float64 { return 0.5 },
		})
	})
}

// TestStoreThatBreaks: the object says why, and the agent is not ready until it is mended or the API server takes its reports again.
func TestStoreThatBreaks(t *testing.T) {
	t.Parallel()
	withReporter(t, func(m *memoryStore, server *ownObject, r *Reporter) {
		check := func(when, reason string, healthy bool) {
			t.Helper()
			if _, err := r.Reconcile(t.Context(), reconcile.Request{}); (err != nil) != (server.refuse != nil) {
				t.Errorf("%s: %v", when, err)
			}
			c := meta.FindStatusCondition(server.object.Status.Conditions, v1alpha1.ConditionStorageReady)
			if c == nil || c.Reason != reason || (r.Healthy() == nil) != healthy {
				t.Errorf("%s: condition %+v, health %v", when, c, r.Healthy())
			}
		}
		m.broken = reasonError(v1alpha1.ReasonStorageError)
		check("broken", v1alpha1.ReasonStorageError, false)
		m.broken = nil
		check("mended", v1alpha1.ReasonStorageUsable, true)
		server.refuse = apierrors.NewForbidden(schema.GroupResource{}, "n", nil)
		m.broken = reasonError(v1alpha1.ReasonStorageError)
		check("not taken", v1alpha1.ReasonStorageUsable, false)
		server.refuse, m.broken = apierrors.NewServiceUnavailable("later"), nil
		server.object.Status.AgentVersion = "v0"
		check("away", v1alpha1.ReasonStorageUsable, false)
		server.refuse = nil
		check("taken", v1alpha1.ReasonStorageUsable, true)
	})
}

func look(t *testing.T, r *Reporter) (again time.Duration) {
	t.Helper()
	result, err := r.Reconcile(t.Context(), reconcile.Request{})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return result.RequeueAfter
}

// TestFirstReport lets the orders of other nodes go first, whatever it has to say; later ones tell of a slot at once.
func TestFirstReport(t *testing.T) {
	t.Parallel()
	withReporter(t, func(_ *memoryStore, server *ownObject, r *Reporter) {
		server.object.Spec.Images = []v1alpha1.AssignedImage{order("a", digestA, hold), order("b", digestB, fetch)}
		look(t, r)
		wait := look(t, r)
		if server.writes != 0 || wait < firstAfter || wait > 2*firstAfter {
			t.Fatalf("%d writes, the next look is in %s", server.writes, wait)
		}
		time.Sleep(wait)
		if look(t, r); server.writes != 1 || len(server.object.Status.Images) != 2 {
			t.Fatalf("%d writes after that, status %+v", server.writes, server.object.Status)
		}
		server.object.Spec.Images = append(server.object.Spec.Images, order("c", digestA, hold))
		if look(t, r); server.writes != 1 {
			t.Errorf("%d writes after another image was held", server.writes)
		}
		server.object.Spec.Images[2].Action = fetch
		if look(t, r); server.writes != 2 {
			t.Errorf("%d writes after a slot was granted", server.writes)
		}
	})
}

// TestProgressLeavesRoom: where the API server answers late, progress is told less often.
func TestProgressLeavesRoom(t *testing.T) {
	t.Parallel()
	for takes, want := range map[time.Duration]time.Duration{0: progressEvery, 2 * time.Second: 40 * time.Second, 8 * time.Second: progressMost} {
		t.Run(takes.String(), func(t *testing.T) {
			t.Parallel()
			withReporter(t, func(m *memoryStore, server *ownObject, r *Reporter) {
				server.takes = takes
				server.object.Spec.Images = []v1alpha1.AssignedImage{order("a", digestA, fetch)}
				look(t, r)
				time.Sleep(2 * firstAfter)
				look(t, r)
				m.mu.Lock()
				m.room.BlobBytes++
				m.mu.Unlock()
				if wait := look(t, r); server.writes != 1 || wait < want || wait > want*3/2 {
					t.Errorf("%d writes, the next is in %s, want %s and up to half of that", server.writes, wait, want)
				}
			})
		})
	}
}

// TestGenerationCatchesUp: who waits for StorageReady with kubectl waits for the generation that the condition speaks of. Orders
// that follow each other are one write, and a node that has nothing to say writes nothing.
func TestGenerationCatchesUp(t *testing.T) {
	t.Parallel()
	withReporter(t, func(_ *memoryStore, server *ownObject, r *Reporter) {
		run := func(length time.Duration) { // as the queue would
			t.Helper()
			for end := time.Now().Add(length); ; {
				wait := look(t, r)
				if left := time.Until(end); wait >= left {
					time.Sleep(left)
					return
				}
				time.Sleep(wait)
			}
		}
		check := func(when string, writes int) {
			t.Helper()
			c := meta.FindStatusCondition(server.object.Status.Conditions, v1alpha1.ConditionStorageReady)
			current := c != nil && c.ObservedGeneration == server.object.Generation && server.object.Status.ObservedGeneration == server.object.Generation
			if server.writes != writes || !current {
				t.Errorf("%s: %d writes, want %d; the object has generation %d, the status %d, the condition %+v",
					when, server.writes, writes, server.object.Generation, server.object.Status.ObservedGeneration, c)
			}
		}
		server.object.Generation = 1
		server.object.Spec.Images = []v1alpha1.AssignedImage{order("a", digestA, fetch)}
		run(5 * time.Minute)
		before := server.writes
		check("pulled", before)
		for range 5 { // limits are edited, or the entry of a removed image goes
			server.object.Generation++
			server.object.Spec.Images[0].Download.Connections++
			run(time.Second)
		}
		if server.writes != before {
			t.Errorf("%d writes at once", server.writes-before)
		}
		run(30*time.Second - 5*time.Second) // kubectl wait's own time-out
		check("edited", before+1)
		run(time.Hour)
		check("at rest", before+1)
	})
}

// TestStoreThatCannotBeOpened speaks of the generation, and does not say that its orders were carried out.
func TestStoreThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	server := &ownObject{object: v1alpha1.NodeImageCache{Spec: v1alpha1.NodeImageCacheSpec{NodeUID: "u"}}}
	for _, generation := range []int64{1, 1, 2} {
		server.object.Generation = generation
		if err := ReportStorage(t.Context(), server, "n", reasonError(v1alpha1.ReasonStorageError), time.Now()); err != nil {
			t.Fatal(err)
		}
		c := meta.FindStatusCondition(server.object.Status.Conditions, v1alpha1.ConditionStorageReady)
		if c == nil || c.ObservedGeneration != generation || server.object.Status.ObservedGeneration != 0 || server.object.Status.NodeUID != "u" {
			t.Errorf("generation %d: %+v", generation, server.object.Status)
		}
	}
	if server.writes != 2 {
		t.Errorf("%d writes, want one for each generation", server.writes)
	}
}
