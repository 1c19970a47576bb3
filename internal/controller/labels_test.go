package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	debianLabel = v1alpha1.NodeLabelPrefix + "debian"
	valueA      = "aaaaaaaaaaaa"
)

func TestLabelChanges(t *testing.T) {
	t.Parallel()
	gone := (*string)(nil)
	for name, tt := range map[string]struct {
		have map[string]string
		edit func(w *world, image *v1alpha1.CloudImage)
		want map[string]*string
	}{
		"ready":                 {want: map[string]*string{debianLabel: new(valueA)}},
		"ready and labelled":    {have: map[string]string{debianLabel: valueA}},
		"another digest before": {have: map[string]string{debianLabel: "bbbbbbbbbbbb"}, want: map[string]*string{debianLabel: new(valueA)}},
		"labels of others": {
			have: map[string]string{debianLabel: valueA, "pool": "vms", v1alpha1.NodeLabelPrefix + "mine": "yes", "other.example/x": "0123456789ab"},
		},
		"an image that is gone": {
			have: map[string]string{debianLabel: valueA, v1alpha1.NodeLabelPrefix + "gone": "0123456789ab"},
			want: map[string]*string{v1alpha1.NodeLabelPrefix + "gone": gone},
		},
		"never ready": {
			edit: func(w *world, _ *v1alpha1.CloudImage) {
				w.report("node-000", "debian", failed(v1alpha1.ReasonForbidden))
			},
		},
		"lost its blob": {
			have: map[string]string{debianLabel: valueA},
			edit: func(w *world, _ *v1alpha1.CloudImage) {
				w.report("node-000", "debian", func(s *v1alpha1.ImageStatus) { s.State, s.Digest = v1alpha1.StatePulling, "" })
			},
			want: map[string]*string{debianLabel: gone},
		},
		"being deleted": {
			have: map[string]string{debianLabel: valueA},
			edit: func(w *world, image *v1alpha1.CloudImage) { image.DeletionTimestamp = &metav1.Time{Time: w.now} },
			want: map[string]*string{debianLabel: gone},
		},
		"a new revision that is not there yet": {
			have: map[string]string{debianLabel: valueA},
			edit: func(w *world, image *v1alpha1.CloudImage) {
				image.Spec.Digest = digestB
				image.Generation++
				w.settle()
			},
			want: map[string]*string{debianLabel: gone},
		},
		"no longer selected": {
			have: map[string]string{debianLabel: valueA},
			edit: func(_ *world, image *v1alpha1.CloudImage) {
				image.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "vms"}}
			},
			want: map[string]*string{debianLabel: gone},
		},
		"selector with a typing error": {
			have: map[string]string{debianLabel: valueA},
			edit: func(_ *world, image *v1alpha1.CloudImage) {
				image.Spec.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "pool", Operator: "in"}}}
			},
		},
		"agent away": {
			have: map[string]string{debianLabel: valueA},
			edit: func(w *world, _ *v1alpha1.CloudImage) {
				w.s.Nodes[0].AgentReady = false
				w.settle()
				w.now = w.now.Add(unavailableAfter)
				w.settle()
			},
		},
		"another machine": {
			have: map[string]string{debianLabel: valueA},
			edit: func(w *world, _ *v1alpha1.CloudImage) { w.s.Nodes[0].UID = "another" },
			want: map[string]*string{debianLabel: gone},
		},
		"no object": {
			have: map[string]string{debianLabel: valueA},
			edit: func(w *world, _ *v1alpha1.CloudImage) { delete(w.s.Caches, "node-000") },
			want: map[string]*string{debianLabel: gone},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			image := w.apply("debian", nil)
			w.settle()
			w.report("node-000", "debian", ready(digestA))
			w.settle()
			if tt.edit != nil {
				tt.edit(w, image)
			}
			node := w.s.Nodes[0]
			got := labelChanges(tt.have, wantedLabels(tt.have, node.UID, w.s.Caches[node.Name], []v1alpha1.CloudImage{*image}))
			if tt.want == nil {
				tt.want = map[string]*string{}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// labelledNode is an API server with one Node, its object and its images.
type labelledNode struct {
	client.Client
	node    metav1.PartialObjectMetadata
	cache   *v1alpha1.NodeImageCache
	images  []v1alpha1.CloudImage
	patches []string
	err     error
}

func (n *labelledNode) Get(_ context.Context, key client.ObjectKey, object client.Object, _ ...client.GetOption) error {
	switch into := object.(type) {
	case *metav1.PartialObjectMetadata:
		if key.Name != n.node.Name {
			return apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, key.Name)
		}
		n.node.DeepCopyInto(into)
	case *v1alpha1.NodeImageCache:
		if n.cache == nil {
			return apierrors.NewNotFound(schema.GroupResource{Resource: "nodeimagecaches"}, key.Name)
		}
		n.cache.DeepCopyInto(into)
	default:
		return fmt.Errorf("unexpected %T", object)
	}
	return nil
}

func (n *labelledNode) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	images, ok := list.(*v1alpha1.CloudImageList)
	if !ok {
		return fmt.Errorf("unexpected %T", list)
	}
	images.Items = n.images
	return nil
}

func (n *labelledNode) Patch(_ context.Context, object client.Object, patch client.Patch, _ ...client.PatchOption) error {
	data, err := patch.Data(object)
	if err != nil {
		return err
	}
	n.patches = append(n.patches, string(data))
	if n.err != nil {
		return n.err
	}
	var written struct {
		Metadata struct {
			Labels map[string]*string `json:"labels"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(data, &written); err != nil {
		return err
	}
	for key, value := range written.Metadata.Labels {
		if value == nil {
			delete(n.node.Labels, key)
			continue
		}
		n.node.Labels[key] = *value
	}
	return nil
}

func TestLabelerWritesAtMostOncePerTenSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	for _, name := range []string{"alpine", "debian", "fedora"} {
		w.apply(name, nil)
	}
	w.settle()
	w.report("node-000", "alpine", ready(digestA))
	w.report("node-000", "debian", ready(digestA))
	server := &labelledNode{
		node: metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "node-000", UID: "uid-000", Labels: map[string]string{"pool": "vms"}}},
	}
	now := w.now
	labeler := &Labeler{Client: server, Now: func() time.Time { return now }}
	look := func(wantPatches int, wantWait time.Duration) {
		t.Helper()
		server.cache, server.images = w.s.Caches["node-000"], nil
		for _, image := range w.s.Images {
			server.images = append(server.images, *image)
		}
		result, err := labeler.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "node-000"}})
		if err != nil || len(server.patches) != wantPatches || result.RequeueAfter != wantWait {
			t.Fatalf("%d patches %q, want %d; again after %s, want %s; error %v",
				len(server.patches), server.patches, wantPatches, result.RequeueAfter, wantWait, err)
		}
	}
	look(1, 0)
	look(1, 0) // nothing changed
	now = now.Add(4 * time.Second)
	w.report("node-000", "fedora", ready(digestA))
	look(1, 6*time.Second)
	w.report("node-000", "debian", failed(v1alpha1.ReasonStorageError))
	look(1, 6*time.Second)
	now = now.Add(6 * time.Second)
	look(2, 0)
	want := map[string]string{"pool": "vms", v1alpha1.NodeLabelPrefix + "alpine": valueA, v1alpha1.NodeLabelPrefix + "fedora": valueA}
	if diff := cmp.Diff(want, server.node.Labels); diff != "" {
		t.Error(diff)
	}
	if want := `{"metadata":{"labels":{"` + debianLabel + `":null,"` + v1alpha1.NodeLabelPrefix + `fedora":"` + valueA + `"},"uid":"uid-000"}}`; server.patches[1] != want {
		t.Errorf("the second patch is %s", server.patches[1])
	}
	now = now.Add(labelEvery)
	server.err = apierrors.NewConflict(schema.GroupResource{Resource: "nodes"}, "node-000", nil) // another machine by now
	w.report("node-000", "debian", ready(digestA))
	look(3, 0)
}
