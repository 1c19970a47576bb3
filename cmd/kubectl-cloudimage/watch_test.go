package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestDrawShowsEachChangeOnceAndNotTooOften: five thousand nodes that report must not make a terminal flicker.
func TestDrawShowsEachChangeOnceAndNotTooOften(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		changed, done := make(chan struct{}, 1), make(chan error)
		began := time.Now()
		const quick = redraw / 20
		changes := []time.Duration{10*redraw + quick, 20*redraw + quick, 20*redraw + 2*quick, 20*redraw + 3*quick}
		var out bytes.Buffer
		var pictures []time.Duration
		go func() {
			done <- draw(ctx, &out, changed, func(w io.Writer) error {
				at, state := time.Since(began), 0
				pictures = append(pictures, at)
				for _, change := range changes[1:] { // the first one is of something that is not shown
					if at >= change {
						state++
					}
				}
				_, err := fmt.Fprintf(w, "state %d\n", state)
				return err
			})
		}()
		for _, change := range changes {
			time.Sleep(change - time.Since(began))
			changed <- struct{}{}
		}
		time.Sleep(10 * redraw)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		// Two changes come within half a second of a picture, the second while the first one waits for its turn.
		if diff := cmp.Diff([]time.Duration{0, changes[0], changes[1], 21 * redraw, 22 * redraw}, pictures); diff != "" {
			t.Errorf("times of the pictures: %s", diff)
		}
		if diff := cmp.Diff("state 0\nstate 1\nstate 3\n", out.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestImagesInOneTable(t *testing.T) {
	t.Parallel()
	stale := image(func(i *v1alpha1.CloudImage) { i.Name, i.Generation = "edited", 2 })
	var out bytes.Buffer
	if err := writeImages(&out, []v1alpha1.CloudImage{*image(nil), *stale}); err != nil {
		t.Fatal(err)
	}
	want := `IMAGE    NODES READY                     RATE   STATUS
debian   [####................] 1 of 5   -      Warming: 1 of 5 nodes ready
edited   [####................] 1 of 5   -      the manager has not looked at it yet; does it run?
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

// TestWatchSaysWhatANodeWaitsFor as status does: what an informer leaves out of an object is not missed.
func TestWatchSaysWhatANodeWaitsFor(t *testing.T) {
	t.Parallel()
	waiting := node("a", v1alpha1.ActionPull, v1alpha1.ImageStatus{State: v1alpha1.StatePending})
	waiting.Spec.Images = append(waiting.Spec.Images, v1alpha1.AssignedImage{Name: "fedora"}, v1alpha1.AssignedImage{Name: "ubuntu"})
	waiting.Status.Images = append(waiting.Status.Images,
		v1alpha1.ImageStatus{Name: "fedora", State: v1alpha1.StatePulling, SizeBytes: mib}, v1alpha1.ImageStatus{Name: "ubuntu", State: v1alpha1.StateReady})
	want := rowsOf(image(nil), []v1alpha1.NodeImageCache{*waiting.DeepCopy()}, now)
	object, err := keepOnly("debian")(&waiting)
	if err != nil {
		t.Fatal(err)
	}
	kept := object.(*v1alpha1.NodeImageCache)
	got := rowsOf(image(nil), []v1alpha1.NodeImageCache{*kept}, now)
	if len(kept.Spec.Images) != 1 || len(kept.Status.Images) != 2 || got[0].why() == "" || got[0].why() != want[0].why() {
		t.Errorf("%q of %+v, and without a watch %q", got[0].why(), kept.Status.Images, want[0].why())
	}
}
