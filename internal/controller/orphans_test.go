package controller

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestObjectsThatNobodyCollects begins with an object whose Node is there and one whose Node never was.
func TestObjectsThatNobodyCollects(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		edit           func(w *world)
		passes         []time.Duration // after the last pass
		adopt, deleted []string
	}{
		"just seen":                 {passes: []time.Duration{0}},
		"for a while":               {passes: []time.Duration{0, orphanedFor - time.Second}},
		"for long enough":           {passes: []time.Duration{0, orphanedFor}, deleted: []string{"stray"}},
		"after a restart":           {passes: []time.Duration{time.Hour}},
		"its Node comes meanwhile":  {edit: func(w *world) { w.join("stray", nil) }, passes: []time.Duration{0, orphanedFor}},
		"its Node is being deleted": {edit: func(w *world) { w.s.Nodes[0].Deleting = true }, passes: []time.Duration{0}},
		"without an owner": {
			edit: func(w *world) { w.s.Caches["node-000"].OwnerReferences = nil }, passes: []time.Duration{0}, adopt: []string{"node-000"},
		},
		"owned by another machine": {
			edit:   func(w *world) { w.s.Caches["node-000"].OwnerReferences[0].UID = "another" },
			passes: []time.Duration{0}, adopt: []string{"node-000"},
		},
		"of another machine": { // deleted as a whole, and made anew
			edit: func(w *world) {
				w.s.Nodes[0].UID, w.s.Caches["node-000"].OwnerReferences = "another", nil
			}, passes: []time.Duration{0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.apply("debian", nil)
			w.settle()
			if got := w.s.Caches["node-000"].OwnerReferences; len(got) != 1 {
				t.Fatalf("a new object has the owners %v", got)
			}
			w.s.Caches["stray"] = &v1alpha1.NodeImageCache{
				ObjectMeta: metav1.ObjectMeta{Name: "stray", UID: "uid-of-stray"}, Spec: v1alpha1.NodeImageCacheSpec{NodeUID: "uid-stray"},
			}
			w.s.Caches["stray"].OwnerReferences = []metav1.OwnerReference{owner("stray", "uid-stray")}
			if tt.edit != nil {
				tt.edit(w)
			}
			for _, after := range tt.passes {
				w.now = w.now.Add(after)
				w.memory = w.memory.Observe(w.s, w.now)
				w.plan = MakePlan(w.s, w.memory, w.now)
				if len(w.plan.Orphans) == 0 && len(w.s.orphans()) > 0 && w.plan.Next.IsZero() {
					t.Error("nothing makes the pass that would delete it")
				}
			}
			if diff := cmp.Diff(tt.deleted, names(w.plan.Orphans)); diff != "" {
				t.Errorf("deleted: %s", diff)
			}
			if diff := cmp.Diff(tt.adopt, names(w.plan.Adopt)); diff != "" {
				t.Errorf("given an owner: %s", diff)
			}
		})
	}
}

func names(caches []*v1alpha1.NodeImageCache) []string {
	var found []string
	for _, cache := range caches {
		found = append(found, cache.Name)
	}
	return found
}
