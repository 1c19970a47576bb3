package controller

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

func TestFlipsHoldLabelsBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	set, changed, taken := map[string]*string{debianLabel: new(valueA)}, map[string]string{debianLabel: "bbbbbbbbbbbb"}, map[string]*string{debianLabel: nil}
	for name, tt := range map[string]struct {
		count   int
		ago     time.Duration
		changes map[string]*string
		have    map[string]string
		wait    time.Duration // 0: it is written
	}{
		"never taken":                   {0, 0, set, nil, 0},
		"taken once":                    {1, time.Second, set, nil, 0},
		"taken twice":                   {2, time.Second, set, nil, time.Minute - time.Second},
		"taken twice, a minute ago":     {2, time.Minute, set, nil, 0},
		"taken three times":             {3, time.Minute, set, nil, time.Minute},
		"taken five times":              {5, 0, set, nil, 8 * time.Minute},
		"taken eight times":             {8, 0, set, nil, time.Hour},
		"taken a million times":         {1e6, 0, set, nil, time.Hour},
		"to be taken again":             {9, 0, taken, map[string]string{debianLabel: valueA}, 0},
		"another digest, never held":    {9, 0, set, changed, 0},
		"of another image, beside this": {9, 0, map[string]*string{v1alpha1.NodeLabelPrefix + "fedora": new(valueA)}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			write, next := flips{debianLabel: {tt.count, now.Add(-tt.ago)}}.held(tt.changes, tt.have, now)
			want, at := tt.changes, time.Time{}
			if tt.wait > 0 {
				want, at = map[string]*string{}, now.Add(tt.wait)
			}
			if diff := cmp.Diff(want, write); diff != "" || !next.Equal(at) {
				t.Errorf("the next write is at %s, want %s; now: %s", next, at, diff)
			}
		})
	}
}

func TestFlipsAreForgotten(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	taken := map[string]*string{debianLabel: nil}
	for name, tt := range map[string]struct {
		count      int
		ago        time.Duration
		changes    map[string]*string
		unselected bool
		want       int
	}{
		"the first":                      {0, 0, taken, true, 1},
		"one more":                       {2, time.Minute, taken, true, 3},
		"not because of the selector":    {2, time.Minute, taken, false, 2},
		"set again":                      {2, time.Minute, map[string]*string{debianLabel: new(valueA)}, false, 2},
		"long ago":                       {2, time.Hour + time.Minute, nil, false, 0},
		"long ago, and one more":         {2, time.Hour + time.Minute, taken, true, 1},
		"an hour after the longest wait": {9, 2*time.Hour - time.Second, taken, true, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := flips{}
			if tt.count > 0 {
				before[debianLabel] = flip{tt.count, now.Add(-tt.ago)}
			}
			after := before.after(tt.changes, map[string]bool{debianLabel: tt.unselected}, now)
			if got := after[debianLabel]; got.count != tt.want || got.count > tt.count && !got.last.Equal(now) {
				t.Errorf("%+v, want %d of them", got, tt.want)
			}
		})
	}
}

// TestSelectorsThatUndoThemselves lets a planner, an agent and a labeler go on for an hour of the selectors that turn each other.
func TestSelectorsThatUndoThemselves(t *testing.T) {
	t.Parallel()
	on := func(image string, operator metav1.LabelSelectorOperator) func(*v1alpha1.CloudImage) {
		return func(i *v1alpha1.CloudImage) {
			i.Spec.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: v1alpha1.NodeLabelPrefix + image, Operator: operator}}}
		}
	}
	const without, with = metav1.LabelSelectorOpDoesNotExist, metav1.LabelSelectorOpExists
	for name, tt := range map[string]struct {
		images map[string]func(*v1alpha1.CloudImage)
		most   int // writes of the Node
	}{
		"one that waits for another":       {map[string]func(*v1alpha1.CloudImage){"a": nil, "b": on("a", with)}, 2},
		"its own label, from before":       {map[string]func(*v1alpha1.CloudImage){"a": on("a", without)}, 20},
		"two that want to be alone":        {map[string]func(*v1alpha1.CloudImage){"a": on("b", without), "b": on("a", without)}, 20},
		"a circle":                         {map[string]func(*v1alpha1.CloudImage){"a": on("b", without), "b": on("a", with)}, 30},
		"a circle of three":                {map[string]func(*v1alpha1.CloudImage){"a": on("c", without), "b": on("a", with), "c": on("b", with)}, 50},
		"a circle, and one that stands by": {map[string]func(*v1alpha1.CloudImage){"a": on("b", without), "b": on("a", with), "z": nil}, 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			w.s.Nodes[0].Labels = map[string]string{}
			for _, image := range slices.Sorted(maps.Keys(tt.images)) {
				w.apply(image, tt.images[image])
			}
			server := &labelledNode{}
			server.node.Name, server.node.UID, server.node.Labels = "node-000", "uid-000", map[string]string{}
			labeler := &Labeler{Client: server, Now: func() time.Time { return w.now }}
			for end := w.now.Add(time.Hour); w.now.Before(end); w.now = w.now.Add(5 * time.Second) {
				w.s.Nodes[0].Labels = maps.Clone(server.node.Labels)
				w.pass()
				obey(w, "node-000")
				server.cache, server.images = w.s.Caches["node-000"], nil
				for _, image := range w.s.Images {
					server.images = append(server.images, *image)
				}
				if _, err := labeler.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "node-000"}}); err != nil {
					t.Fatal(err)
				}
			}
			if got := len(server.patches); got > tt.most || got == 0 {
				t.Errorf("%d writes of the Node in an hour, want at most %d:\n%s", got, tt.most, fmt.Sprint(server.patches))
			}
			if _, found := server.node.Labels[v1alpha1.NodeLabelPrefix+"z"]; found != (len(w.s.Images) == 3 && w.s.Images[2].Name == "z") {
				t.Errorf("the labels are %v", server.node.Labels)
			}
		})
	}
}

// obey lets a node's agent hold all that it is ordered to, and nothing else, at once.
func obey(w *world, node string) {
	cache := w.s.Caches[node].DeepCopy()
	cache.Status.NodeUID, cache.Status.Images = cache.Spec.NodeUID, nil
	w.s.Caches[node] = cache
	for i := range cache.Spec.Images {
		w.report(node, cache.Spec.Images[i].Name, ready(digestA))
	}
}

// TestALabelIsLookedAtAgain however long the look at it takes: after a pause that has passed meanwhile, nothing else may come.
func TestALabelIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	w.apply("debian", nil)
	w.pass()
	obey(w, "node-000")
	w.pass()
	server := &labelledNode{cache: w.s.Caches["node-000"]}
	server.node.Name, server.node.UID, server.node.Labels = "node-000", "uid-000", map[string]string{}
	for _, image := range w.s.Images {
		server.images = append(server.images, *image)
	}
	now := w.now
	labeler := &Labeler{
		Client: server, Now: func() time.Time { now = now.Add(firstHeldBack); return now },
		flipped: map[string]flips{"node-000": {v1alpha1.NodeLabelPrefix + "debian": {2, now.Add(firstHeldBack / 2)}}},
	}
	result, err := labeler.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "node-000"}})
	if err != nil || result.RequeueAfter <= 0 || len(server.patches) != 0 {
		t.Errorf("the next look is after %s (%v), after the patches %v", result.RequeueAfter, err, server.patches)
	}
}
