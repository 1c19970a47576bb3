package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestWaitingHoldsUpNoOtherImage has an agent that pulls one image at a time, with
// images whose servers fail before one whose server serves.
func TestWaitingHoldsUpNoOtherImage(t *testing.T) {
	t.Parallel()
	const images = 4
	for name, fails := range map[string]pulltest.Behaviour{
		"503":       pulltest.Status(http.StatusServiceUnavailable, "Retry-After", "120"),
		"no answer": pulltest.Hold(make(chan struct{})),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := pull.Open(t.Context(), t.TempDir(), pull.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = store.Close() }()
			metrics := controller.NewAgentMetrics(prometheus.NewRegistry())
			im := controller.NewImages(t.Context(), &nodeStore{store: store, sources: &controller.Sources{}, metrics: metrics}, controller.ImagesOptions{
				Concurrent: 1, Now: time.Now, Random: rand.Float64, Metrics: metrics, Log: logr.Discard(),
			})
			defer im.Stop()
			order := func(name string, server *pulltest.Server) v1alpha1.AssignedImage {
				return v1alpha1.AssignedImage{
					Name: name, Revision: "r", Action: v1alpha1.ActionPull, Format: v1alpha1.FormatRaw, MaxSize: resource.MustParse("1Gi"),
					Source: v1alpha1.ImageSource{HTTP: &v1alpha1.HTTPSource{URL: server.URL}},
				}
			}
			var orders []v1alpha1.AssignedImage
			var bad []*pulltest.Server
			for i := range images {
				bad = append(bad, pulltest.New(t, pulltest.Random(1, 1<<20), fails))
				orders = append(orders, order(fmt.Sprint("bad-", i), bad[i]))
			}
			im.Sync(orders, nil)
			began := time.Now()
			im.Sync(append(orders, order("good", pulltest.New(t, pulltest.Random(1, 9<<20)))), nil)
			ready := func(s v1alpha1.ImageStatus) bool { return s.Name == "good" && s.State == v1alpha1.StateReady }
			for !slices.ContainsFunc(im.Statuses(), ready) {
				select {
				case <-im.Changed():
				case <-time.After(time.Minute - time.Since(began)):
					t.Fatalf("not ready after a minute: %+v", im.Statuses())
				}
			}
			for i, server := range bad {
				if n := len(server.Log()); n > 1 {
					t.Errorf("server %d was asked %d times", i, n)
				}
			}
			for _, s := range im.Statuses() {
				if s.Attempts > 1 || s.State == v1alpha1.StateFailed && s.Reason != v1alpha1.ReasonSourceThrottled {
					t.Errorf("%s: %s %s after %d attempts", s.Name, s.State, s.Reason, s.Attempts)
				}
			}
		})
	}
}
