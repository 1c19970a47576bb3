package controlplane_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
)

// TestBackupAndOutage restores a backup, changes something behind the back of the first API server's clients, and looks at what
// they get when it is back.
func TestBackupAndOutage(t *testing.T) {
	t.Parallel()
	c := start(t)
	maps := mapsOf(t, kubernetes.NewForConfigOrDie(c.Config))
	maps.create(t, "before")
	backup, err := c.BackUpEtcd()
	if err != nil {
		t.Fatal(err)
	}
	version := maps.create(t, "after").ResourceVersion
	killAPIServer(t, c)
	if _, err := maps.Get(t.Context(), "before", metav1.GetOptions{}); err == nil {
		t.Error("a killed API server answered")
	}
	if err := c.RestoreEtcd(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	config, stop, err := c.OtherAPIServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mapsOf(t, kubernetes.NewForConfigOrDie(config)).create(t, "behind")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAPIServer(t.Context(), "--max-requests-inflight=100"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"before", "behind"} {
		if _, err := maps.Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	if _, err := maps.Get(t.Context(), "after", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what is younger than the backup: error %v, want NotFound", err)
	}
	watcher, err := maps.Watch(t.Context(), metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	if event := <-watcher.ResultChan(); event.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(event.Object)) {
		t.Errorf("a watch from before the restore: %+v, want that it expired", event)
	}
}

func killAPIServer(t *testing.T, c *controlplane.ControlPlane) {
	t.Helper()
	if err := c.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
}

type configMaps struct{ typedv1.ConfigMapInterface }

func mapsOf(t *testing.T, client kubernetes.Interface) configMaps {
	t.Helper()
	return configMaps{client.CoreV1().ConfigMaps(metav1.NamespaceDefault)}
}

func (c configMaps) create(t *testing.T, name string) *corev1.ConfigMap {
	t.Helper()
	made, err := c.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}
