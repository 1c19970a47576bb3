package controller

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
