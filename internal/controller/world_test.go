package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// world is a cluster in memory: what the API server would hold, and the time.
type world struct {
	t      *testing.T
	now    time.Time
	s      Snapshot
	memory Memory
	plan   Plan
}

func newWorld(t *testing.T, nodes int) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), s: Snapshot{Caches: map[string]*v1alpha1.NodeImageCache{}}}
	for i := range nodes {
		w.s.Nodes = append(w.s.Nodes, Node{Name: fmt.Sprintf("node-%03d", i), UID: fmt.Sprintf("uid-%03d", i), HasAgent: true, AgentReady: true})
	}
	return w
}

func (w *world) apply(name string, edit func(*v1alpha1.CloudImage)) *v1alpha1.CloudImage {
	limit := intstr.FromInt32(10)
	image := &v1alpha1.CloudImage{
		ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1, Finalizers: []string{v1alpha1.Finalizer}},
		Spec: v1alpha1.CloudImageSpec{
			Source: v1alpha1.ImageSource{HTTP: &v1alpha1.HTTPSource{URL: "https://images.example/" + name}},
			Digest: digestA, Format: v1alpha1.FormatAuto, MaxSize: resource.MustParse("20Gi"),
			Rollout: v1alpha1.RolloutPolicy{MaxConcurrentNodes: &limit}, DeletionPolicy: v1alpha1.DeletionDelete,
		},
		Status: v1alpha1.CloudImageStatus{ObservedGeneration: -1},
	}
	if edit != nil {
		edit(image)
	}
	w.s.Images = append(w.s.Images, image)
	return image
}

// pass runs one pass and carries out what it decided.
func (w *world) pass() {
	w.t.Helper()
	w.memory = w.memory.Observe(w.s, w.now)
	w.plan = MakePlan(w.s, w.memory, w.now)
	w.memory.tallies = w.plan.tallies
	for _, cache := range slices.Concat(w.plan.Replace, w.plan.Orphans) {
		delete(w.s.Caches, cache.Name)
	}
	for _, orders := range w.plan.Create {
		w.s.Caches[orders.Node.Name] = &v1alpha1.NodeImageCache{
			ObjectMeta: metav1.ObjectMeta{
				Name: orders.Node.Name, Generation: 1, UID: types.UID("uid-of-" + orders.Node.Name),
				OwnerReferences: []metav1.OwnerReference{owner(orders.Node.Name, orders.Node.UID)},
			},
			Spec: v1alpha1.NodeImageCacheSpec{NodeUID: orders.Node.UID, Images: orders.Images},
		}
	}
	for _, orders := range w.plan.Update {
		updated := orders.Cache.DeepCopy()
		updated.Spec.Images = orders.Images
		updated.Generation++
		w.s.Caches[updated.Name] = updated
	}
	for i := range w.plan.views {
		view := &w.plan.views[i]
		view.image.Status = summarize(view, &w.plan.rollouts[i], w.now)
		checkKstatus(w.t, view.image)
	}
	for _, image := range w.s.Images {
		if remaining := w.plan.removing[image.Name]; remaining > 0 {
			image.Status = summarizeRemoval(image, remaining, w.plan.keepers[image.Name], w.now)
			checkKstatus(w.t, image)
		}
	}
	for _, image := range w.plan.DropFinalizer {
		controllerutil.RemoveFinalizer(image, v1alpha1.Finalizer)
		w.s.Images = slices.DeleteFunc(w.s.Images, func(i *v1alpha1.CloudImage) bool { return i == image })
	}
}

// settle passes until nothing changes any more.
func (w *world) settle() {
	w.t.Helper()
	for range 20 {
		w.pass()
		pinned := slices.ContainsFunc(w.plan.views, func(v imageView) bool { return v.pin != "" })
		if len(w.plan.Create)+len(w.plan.Update)+len(w.plan.Replace)+len(w.plan.DropFinalizer) == 0 && !pinned {
			return
		}
	}
	w.t.Fatal("the plan never settles")
}

// report writes what a node's agent would say of an image.
func (w *world) report(node, image string, edit func(*v1alpha1.ImageStatus)) {
	w.t.Helper()
	cache := w.s.Caches[node].DeepCopy()
	cache.Status.NodeUID, cache.Status.ObservedGeneration = cache.Spec.NodeUID, cache.Generation
	status := reportedIn(cache, image)
	if status == nil {
		cache.Status.Images = append(cache.Status.Images, v1alpha1.ImageStatus{Name: image, State: v1alpha1.StatePending})
		status = reportedIn(cache, image)
	}
	if order := orderIn(cache, image); order != nil {
		status.Revision = order.Revision
	}
	edit(status)
	if order := orderIn(cache, image); order != nil && order.Action == v1alpha1.ActionPull {
		status.Retry = order.Retry // an agent repeats it when a pull starts
	}
	w.s.Caches[node] = cache
}

// drop lets a node's agent carry out an order to remove.
func (w *world) drop(node, image string) {
	cache := w.s.Caches[node].DeepCopy()
	cache.Status.NodeUID, cache.Status.ObservedGeneration = cache.Spec.NodeUID, cache.Generation
	cache.Status.Images = slices.DeleteFunc(cache.Status.Images, func(s v1alpha1.ImageStatus) bool { return s.Name == image })
	w.s.Caches[node] = cache
}

// granted are the nodes that were told to pull an image and do not hold it, in order.
func (w *world) granted(image string) []string {
	var names []string
	for _, node := range w.s.Nodes {
		cache := w.s.Caches[node.Name]
		if cache == nil {
			continue
		}
		order, status := orderIn(cache, image), statusIn(cache, image)
		if order != nil && order.Action == v1alpha1.ActionPull &&
			(status == nil || status.Revision != order.Revision || status.State != v1alpha1.StateReady) {
			names = append(names, node.Name)
		}
	}
	return names
}

func ready(digest string) func(*v1alpha1.ImageStatus) {
	return func(s *v1alpha1.ImageStatus) {
		s.State, s.Digest, s.SizeBytes, s.Format = v1alpha1.StateReady, digest, 1<<30, v1alpha1.FormatQcow2
		s.AverageBytesPerSecond = 400 << 20
		s.Reason, s.Message = "", ""
		s.Attempts = max(1, s.Attempts)
	}
}

func failed(reason string) func(*v1alpha1.ImageStatus) {
	return func(s *v1alpha1.ImageStatus) {
		s.State, s.Reason, s.Message = v1alpha1.StateFailed, reason, "it went wrong"
		s.Attempts++
	}
}
