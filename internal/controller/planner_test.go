package controller

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
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
		"outdated": {err: apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "patch", resource, "n", "test failed", 0, false)},
		"invalid":  {err: apierrors.NewInvalid(schema.GroupKind{}, "n", field.ErrorList{field.Required(field.NewPath("spec"), "")}), fails: true},
		"away":     {err: apierrors.NewServiceUnavailable("later"), fails: true},
		"gone":     {err: apierrors.NewNotFound(resource, "n"), forgot: true, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			written := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: "n", Generation: 3}}
			p := &Planner{Client: refusing{err: tt.err}, Now: time.Now, written: newAssumed()}
			p.written.remember(written, time.Now())
			err := p.writeOrders(t.Context(), &Plan{Update: []Orders{{Node: Node{Name: "n"}, Cache: written}}})
			if (err != nil) != tt.fails || (len(p.written.objects) == 0) != tt.forgot {
				t.Errorf("error %v, forgotten: %v", err, len(p.written.objects) == 0)
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
