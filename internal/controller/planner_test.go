package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// refusing answers every patch with one error.
type refusing struct {
	client.Client
	err error
}

func (r refusing) Patch(context.Context, client.Object, client.Patch, ...client.PatchOption) error {
	return r.err
}

// TestRefusedWriteAndWhatWasWrittenBefore: the informer may still show neither the
// last write nor the change that the new one conflicts with.
func TestRefusedWriteAndWhatWasWrittenBefore(t *testing.T) {
	t.Parallel()
	resource := schema.GroupResource{Resource: "nodeimagecaches"}
	for name, tt := range map[string]struct {
		err    error
		forgot bool
		fails  bool
	}{
		"conflict": {err: apierrors.NewConflict(resource, "n", nil)},
		"outdated": {err: apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", schema.GroupResource{}, "", "test failed", 0, false)},
		"webhook": {err: &apierrors.StatusError{ErrStatus: metav1.Status{
			Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: `admission webhook "w" denied the request: no`,
		}}, fails: true},
		"webhook without a reason": {err: &apierrors.StatusError{ErrStatus: metav1.Status{Code: http.StatusUnprocessableEntity}}, fails: true},
		"invalid":                  {err: apierrors.NewInvalid(schema.GroupKind{}, "n", field.ErrorList{field.Required(field.NewPath("spec"), "")}), fails: true},
		"away":                     {err: apierrors.NewServiceUnavailable("later"), fails: true},
		"gone":                     {err: apierrors.NewNotFound(resource, "n"), forgot: true, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			written := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: "n", Generation: 3}}
			p := &Planner{Client: refusing{err: tt.err}, Now: time.Now, written: newAssumed()}
			p.written.remember(written, time.Now(), assumedFor)
			err := p.writeOrders(t.Context(), &Plan{Update: []Orders{{Node: Node{Name: "n"}, Cache: written}}})
			if (err != nil) != tt.fails || (len(p.written.objects) == 0) != tt.forgot {
				t.Errorf("error %v, forgotten: %v", err, len(p.written.objects) == 0)
			}
		})
	}
}

// TestOrdersInDoubt: orders whose answer never came may have arrived, and a slot that they grant is taken.
func TestOrdersInDoubt(t *testing.T) {
	t.Parallel()
	resource := schema.GroupResource{Resource: "nodeimagecaches"}
	for name, tt := range map[string]struct {
		err     error
		granted bool
	}{
		"no answer":     {context.DeadlineExceeded, true},
		"server failed": {apierrors.NewInternalError(errors.New("etcd is away")), true},
		"refused":       {apierrors.NewForbidden(resource, "n", nil), false},
		"outdated":      {apierrors.NewConflict(resource, "n", nil), false},
		"too many":      {apierrors.NewTooManyRequests("later", 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			p := &Planner{Client: refusing{err: tt.err}, Now: func() time.Time { return now }, written: newAssumed()}
			cache := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u", Generation: 3}}
			cache.Spec.Images = []v1alpha1.AssignedImage{order("a", digestA, hold)}
			granted := []v1alpha1.AssignedImage{order("a", digestA, v1alpha1.ActionPull)}
			_ = p.writeOrders(t.Context(), &Plan{Update: []Orders{{Node: Node{Name: "n"}, Cache: cache, Images: granted}}})
			shown := func(at time.Time) bool {
				s := Snapshot{Caches: map[string]*v1alpha1.NodeImageCache{"n": cache}}
				p.written.overlay(s, at)
				return orderIn(s.Caches["n"], "a").Action == v1alpha1.ActionPull
			}
			if got := shown(now); got != tt.granted {
				t.Errorf("the slot counts as taken: %v", got)
			}
			if shown(now.Add(doubtedFor + time.Second)) {
				t.Error("the slot counts as taken for ever")
			}
		})
	}
}

// TestOrdersThatTakeASlotBack also test the report that they were decided from: the node may have begun.
func TestOrdersThatTakeASlotBack(t *testing.T) {
	t.Parallel()
	cache := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u", ResourceVersion: "7", Generation: 3}}
	pulls, holds := order("a", digestA, v1alpha1.ActionPull), order("a", digestA, hold)
	other := holds
	other.Revision = "another"
	for name, tt := range map[string]struct {
		before, after v1alpha1.AssignedImage
		want          bool
	}{
		"taken back":   {pulls, holds, true},
		"granted":      {holds, pulls, false},
		"new revision": {pulls, other, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			of := cache.DeepCopy()
			of.Spec.Images = []v1alpha1.AssignedImage{tt.before}
			patch, err := OrdersPatch(of, []v1alpha1.AssignedImage{tt.after})
			if err != nil {
				t.Fatal(err)
			}
			data, _ := patch.Data(of)
			if got := strings.Contains(string(data), `{"op":"test","path":"/metadata/resourceVersion","value":"7"}`); got != tt.want {
				t.Errorf("%s", data)
			}
		})
	}
}

// recording keeps what every write would change, and under which conditions.
type recording struct {
	client.Client

	writes []string
}

func (r *recording) Patch(_ context.Context, object client.Object, patch client.Patch, _ ...client.PatchOption) error {
	data, err := patch.Data(object)
	r.writes = append(r.writes, string(data))
	return err
}

func (r *recording) Delete(_ context.Context, _ client.Object, options ...client.DeleteOption) error {
	when := (&client.DeleteOptions{}).ApplyOptions(options).Preconditions
	if when == nil || when.UID == nil || when.ResourceVersion == nil {
		return errors.New("the deletion has no conditions")
	}
	r.writes = append(r.writes, "delete "+string(*when.UID)+" at "+*when.ResourceVersion)
	return nil
}

func (r *recording) Status() client.SubResourceWriter { return recordingStatus{of: r} }

type recordingStatus struct {
	client.SubResourceWriter

	of *recording
}

func (r recordingStatus) Patch(ctx context.Context, object client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	return r.of.Patch(ctx, object, patch)
}

// TestWritesCarryTheVersionTheyWerePlannedFrom: a leader that was paused must not write an old plan over a new one.
func TestWritesCarryTheVersionTheyWerePlannedFrom(t *testing.T) {
	t.Parallel()
	cache := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u", ResourceVersion: "7", Generation: 3}}
	image := &v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{Name: "i", ResourceVersion: "8"}}
	held := image.DeepCopy()
	held.Finalizers = []string{v1alpha1.Finalizer}
	for name, tt := range map[string]struct {
		write func(p *Planner) error
		want  string
	}{
		"orders": {func(p *Planner) error {
			return p.writeOrders(t.Context(), &Plan{Update: []Orders{{Node: Node{Name: "n"}, Cache: cache, Images: []v1alpha1.AssignedImage{{Name: "i"}}}}})
		}, `{"op":"test","path":"/metadata/generation","value":3}`},
		"another machine's object": {func(p *Planner) error {
			return p.writeOrders(t.Context(), &Plan{Replace: []*v1alpha1.NodeImageCache{cache}})
		}, "delete u at 7"},
		"a finalizer": {func(p *Planner) error {
			return p.writeFinalizers(t.Context(), &Plan{AddFinalizer: []*v1alpha1.CloudImage{image}})
		}, `"resourceVersion":"8"`},
		"its end": {func(p *Planner) error {
			return p.writeFinalizers(t.Context(), &Plan{DropFinalizer: []*v1alpha1.CloudImage{held}})
		}, `"resourceVersion":"8"`},
		"a status": {func(p *Planner) error {
			return p.writeStatus(t.Context(), image, v1alpha1.CloudImageStatus{Digest: digestA})
		}, `"resourceVersion":"8"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := &recording{}
			p := &Planner{Client: server, Now: time.Now, Events: &eventLog{}, written: newAssumed()}
			if err := tt.write(p); err != nil {
				t.Fatal(err)
			}
			if len(server.writes) != 1 || !strings.Contains(server.writes[0], tt.want) {
				t.Errorf("writes %q, want one with %s", server.writes, tt.want)
			}
		})
	}
}

// slow takes a second for every write, and notes whose object it was.
type slow struct {
	client.Client

	mu      sync.Mutex
	written []string
}

func (s *slow) Patch(_ context.Context, object client.Object, _ client.Patch, _ ...client.PatchOption) error {
	time.Sleep(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = append(s.written, object.GetName())
	return nil
}

// TestOrdersOfManyNodes: a pass ends in time whatever it has to write, and the next one begins where it ended.
func TestOrdersOfManyNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &slow{}
		p := &Planner{Client: server, Now: time.Now, written: newAssumed()}
		plan := &Plan{}
		for i := range 1000 {
			name := fmt.Sprintf("n%04d", i)
			plan.Update = append(plan.Update, Orders{Node: Node{Name: name}, Cache: &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: name}}})
		}
		seen := map[string]bool{}
		for pass := 1; len(seen) < 1000; pass++ {
			started := time.Now()
			if err := p.writeOrders(t.Context(), plan); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(started); took > writeFor+3*time.Second || pass > 4 {
				t.Fatalf("pass %d took %s; %d nodes have their orders", pass, took, len(seen))
			}
			for _, name := range server.written {
				seen[name] = true
			}
		}
	})
}
