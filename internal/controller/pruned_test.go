package controller

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// olderAPI stores statuses as the CRD of the release before does: it drops the
// fields that came later, and a write that then changes nothing makes no new version.
type olderAPI struct {
	client.Client

	image  *v1alpha1.CloudImage
	writes int
}

func (o *olderAPI) Status() client.SubResourceWriter { return olderStatus{of: o} }

type olderStatus struct {
	client.SubResourceWriter

	of *olderAPI
}

func (o olderStatus) Patch(_ context.Context, object client.Object, _ client.Patch, _ ...client.SubResourcePatchOption) error {
	o.of.writes++
	written := object.(*v1alpha1.CloudImage).DeepCopy()
	written.Status.WarmedNodeSelector, written.Status.Encryption = nil, ""
	if rates := written.Status.ThroughputBytesPerSecond; rates != nil {
		rates.Median = 0
	}
	before, _ := json.Marshal(o.of.image.Status)
	after, _ := json.Marshal(written.Status)
	if !slices.Equal(before, after) {
		version, _ := strconv.Atoi(o.of.image.ResourceVersion)
		written.ResourceVersion = strconv.Itoa(version + 1)
		o.of.image.Status, o.of.image.ResourceVersion = written.Status, written.ResourceVersion
	}
	written.DeepCopyInto(object.(*v1alpha1.CloudImage))
	return nil
}

// TestAnOlderCRDIsNotWrittenToInEachPass: what it drops is written once after each change, and a fleet at rest writes nothing.
func TestAnOlderCRDIsNotWrittenToInEachPass(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.UID, i.ResourceVersion = "u", "1" })
	server := &olderAPI{image: image}
	planner := &Planner{Client: server, Now: func() time.Time { return w.now }, Events: &eventLog{}, written: newAssumed(), statuses: pace{}}
	pass := func() int {
		t.Helper()
		w.now = w.now.Add(time.Minute)
		before := server.writes
		stored := image.DeepCopy()
		w.settle() // writes a status of its own
		image.Status, image.ResourceVersion = stored.Status, stored.ResourceVersion
		w.memory = w.memory.Observe(w.s, w.now)
		plan := MakePlan(w.s, w.memory, w.now)
		if _, err := planner.writeStatuses(t.Context(), &plan, w.s); err != nil {
			t.Fatal(err)
		}
		return server.writes - before
	}
	atRest := func(what string) {
		t.Helper()
		pass() // what changed
		pass() // what the CRD drops
		for range 5 {
			if n := pass(); n != 0 {
				t.Fatalf("%s: %d writes of a pass in which nothing changed", what, n)
			}
		}
	}
	atRest("at first")
	for _, node := range w.s.Nodes {
		w.report(node.Name, "debian", ready(digestA))
	}
	atRest("warm")
	if image.Status.Nodes.Ready != 2 || image.Status.WarmedNodeSelector != nil {
		t.Fatalf("the status is %+v", image.Status)
	}
	w.report("node-000", "debian", failed(v1alpha1.ReasonStorageError))
	if pass() != 1 || image.Status.Nodes.Ready != 1 {
		t.Errorf("a node fails, and the status is %+v", image.Status)
	}
	w.report("node-000", "debian", ready(digestA))
	if pass() != 1 || image.Status.Nodes.Ready != 2 {
		t.Errorf("what was dropped before is said again, and the status is %+v", image.Status)
	}
	atRest("warm again")
	w.now = w.now.Add(prunedFor)
	if n := pass(); n != 1 {
		t.Errorf("%d writes after an hour, in which the CRD may have been upgraded", n)
	}
	atRest("an hour later")
}
