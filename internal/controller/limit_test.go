package controller

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// etcdRequestLimit is the most that etcd takes in one request by default (--max-request-bytes).
const etcdRequestLimit = 1.5 * (1 << 20)

// crowd applies images whose objects are as large as the API admits.
func crowd(w *world, from, to int, created time.Time) {
	long := strings.Repeat("x", 253)
	for i := from; i < to; i++ {
		w.apply(fmt.Sprintf("image-%03d-%s", i, long[:53]), func(image *v1alpha1.CloudImage) {
			image.CreationTimestamp = metav1.Time{Time: created}
			image.Spec.Source.HTTP = &v1alpha1.HTTPSource{
				URL:       "https://images.example/" + strings.Repeat("x", 1001),
				SecretRef: &v1alpha1.ObjectReference{Name: long}, CABundleRef: &v1alpha1.ObjectReference{Name: long},
			}
		})
	}
}

func (w *world) leftOut() (names []string) {
	for _, image := range w.s.Images {
		if failures := image.Status.Failures; len(failures) > 0 && failures[0].Reason == v1alpha1.ReasonNodeImageLimit {
			names = append(names, image.Name)
		}
	}
	return names
}

func TestFault25ImagesBeyondWhatAnObjectMayList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	crowd(w, 100, 700, w.now)
	w.settle()
	node := w.s.Caches["node-000"]
	if got := len(node.Spec.Images); got != maxImages {
		t.Fatalf("%d images are listed, want %d", got, maxImages)
	}
	out := w.leftOut()
	if len(out) != 100 || !strings.HasPrefix(out[0], "image-600-") || !strings.HasPrefix(out[99], "image-699-") {
		t.Fatalf("%d images are left out: %.100v", len(out), out)
	}
	last := w.s.Images[599]
	ready := readyOf(&last.Status)
	if ready.Reason != v1alpha1.ReasonNodeImageLimit || !strings.Contains(ready.Message, "node-000: NodeImageLimit: 500 other images take all the places of the node. Delete images") {
		t.Errorf("Ready says %s: %s", ready.Reason, ready.Message)
	}

	for _, order := range node.Spec.Images {
		w.report("node-000", order.Name, func(s *v1alpha1.ImageStatus) { s.Message = strings.Repeat("m", maxMessage) })
	}
	text, err := json.Marshal(w.s.Caches["node-000"])
	if err != nil || len(text) > etcdRequestLimit {
		t.Errorf("the object has %d bytes (%v), etcd takes %.0f", len(text), err, float64(etcdRequestLimit))
	}
	t.Logf("the largest object has %d bytes", len(text))

	// An older image does not push out one that is there.
	crowd(w, 0, 1, w.now.Add(-time.Hour))
	w.s.Images = append(w.s.Images[600:], w.s.Images[:600]...) // by name
	w.settle()
	if out := w.leftOut(); len(out) != 101 || !strings.HasPrefix(out[0], "image-000-") {
		t.Errorf("%d images are left out, want the new one and the 100 of before", len(out))
	}

	// Its turn comes when one goes, and not before that one is dropped.
	gone := w.s.Images[1]
	gone.DeletionTimestamp = &metav1.Time{Time: w.now}
	w.settle()
	if got := len(w.s.Caches["node-000"].Spec.Images); got != maxImages {
		t.Errorf("%d images are listed while one is removed", got)
	}
	w.drop("node-000", gone.Name)
	w.settle()
	if out := w.leftOut(); len(out) != 100 || !strings.HasPrefix(out[0], "image-600-") {
		t.Errorf("%d images are left out after one went: %.100v", len(out), out)
	}
}
