package system

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
)

// world is an API server with the operator's manifests, a manager and nodes. Tests that break its API server have one of their own.
type world struct {
	plane   *controlplane.ControlPlane
	cluster *harness.Cluster
	client  client.WithWatch
}

// newWorld starts a world without a manager for one test.
func newWorld(t *testing.T, name string) *world {
	t.Helper()
	return newWorldOf(t, name, harness.Release{Binaries: suite.binaries})
}

// newWorldOf is one with the manifests and programs of a release.
func newWorldOf(t *testing.T, name string, release harness.Release) *world {
	t.Helper()
	w := &world{}
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err := w.start(ctx, filepath.Join(suite.dir, "worlds", name), release, controlplane.Options{Output: t.Output(), IgnoreEnvironment: true})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// startManager waits until the manager is ready.
func (w *world) startManager(ctx context.Context) error {
	manager, err := w.cluster.StartManager(ctx)
	if err != nil {
		return err
	}
	return manager.WaitReady(ctx)
}

// start leaves to stop what it has started, also after an error.
func (w *world) start(ctx context.Context, dir string, release harness.Release, options controlplane.Options) (err error) {
	if w.plane, err = controlplane.Start(ctx, options); err != nil {
		return err
	}
	w.cluster, err = harness.New(ctx, harness.Options{ControlPlane: w.plane, Binaries: release.Binaries, Dir: dir, Repository: release.Repository})
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	w.client, err = client.NewWithWatch(w.plane.Config, client.Options{Scheme: scheme})
	return err
}

func (w *world) stop() error {
	var errs []error
	if w.cluster != nil {
		errs = append(errs, w.cluster.Stop(context.Background()))
	}
	if w.plane != nil {
		errs = append(errs, w.plane.Stop())
	}
	return errors.Join(errs...)
}
