package controller

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	// coalesce is how long a change waits for others, so that a burst of them
	// makes one pass, and coalesceMost the longest that it does where passes take
	// long.
	coalesce     = 200 * time.Millisecond
	coalesceMost = time.Second
	// retryMax is the longest pause after failed writes. It is short: there is one
	// key, and one broken object must not delay all the others.
	retryMax = 10 * time.Second
)

// everything is the one request that the planner knows.
var everything = reconcile.Request{NamespacedName: types.NamespacedName{Name: "everything"}}

// SetupWithManager makes the planner run on every change of an image, a node, an
// agent's Pod or a node's report.
func (p *Planner) SetupWithManager(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).
		Named("planner").
		Watches(&v1alpha1.CloudImage{}, p.enqueueEverything()).
		Watches(&v1alpha1.NodeImageCache{}, p.enqueueEverything()).
		Watches(&corev1.Pod{}, p.enqueueEverything()).
		WatchesMetadata(nodeMetadata(), p.enqueueEverything(), builder.WithPredicates(nodeChanged())).
		WithOptions(ctrlcontroller.Options{
			MaxConcurrentReconciles: 1,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](coalesce, retryMax),
		}).
		Complete(p)
}

// enqueueEverything turns every event into the same delayed request: those that
// come while it waits are one with it.
func (p *Planner) enqueueEverything() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	enqueue := func(q queue) { q.AddAfter(everything, max(coalesce, time.Duration(p.rest.Load()))) }
	return handler.Funcs{
		CreateFunc:  func(_ context.Context, _ event.CreateEvent, q queue) { enqueue(q) },
		UpdateFunc:  func(_ context.Context, _ event.UpdateEvent, q queue) { enqueue(q) },
		DeleteFunc:  func(_ context.Context, _ event.DeleteEvent, q queue) { enqueue(q) },
		GenericFunc: func(_ context.Context, _ event.GenericEvent, q queue) { enqueue(q) },
	}
}

// restAfter is how long the next pass is put off after one that was planned for so
// long: in a fleet of thousands the planner leaves two thirds of a processor to
// others. The time of its writes does not count: it is the API server's, and what
// changes meanwhile has waited for them.
func restAfter(planned time.Duration) time.Duration { return min(2*planned, coalesceMost) }

// nodeChanged ignores the heartbeats of Nodes: only labels and deletion matter.
func nodeChanged() predicate.Predicate {
	return predicate.Or(predicate.LabelChangedPredicate{}, predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetUID() != e.ObjectNew.GetUID() ||
				e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero()
		},
	})
}

// ManagerCache restricts the informers to what a plan needs: the agents' Pods
// without their containers, the names and labels of Nodes, and objects without
// managed fields.
func ManagerCache(agents AgentPods) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: {
				Namespaces: map[string]cache.Config{agents.Namespace: {LabelSelector: agents.Labels.AsSelector()}},
				Transform:  stripPod,
			},
			&corev1.Node{}: {Transform: stripNode},
		},
	}
}

// stripPod keeps the parts of a Pod that tell whether an agent is ready, and if it
// is not, why.
func stripPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	kept := &corev1.Pod{
		TypeMeta: pod.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID, Labels: pod.Labels,
			ResourceVersion: pod.ResourceVersion, DeletionTimestamp: pod.DeletionTimestamp,
			DeletionGracePeriodSeconds: pod.DeletionGracePeriodSeconds,
		},
		Spec:   corev1.PodSpec{NodeName: pod.Spec.NodeName},
		Status: keepTrouble(&pod.Status),
	}
	if pod.Spec.NodeName == "" {
		kept.Spec.Affinity = pod.Spec.Affinity // names the node that the Pod is meant for
	}
	return kept, nil
}

// stripNode keeps the parts of a Node's metadata that a plan or a label needs.
// Annotations alone would be the larger part of what is kept of 5,000 Nodes.
func stripNode(object any) (any, error) {
	node, ok := object.(*metav1.PartialObjectMetadata)
	if !ok {
		return object, nil
	}
	return &metav1.PartialObjectMetadata{
		TypeMeta: node.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name: node.Name, UID: node.UID, Labels: node.Labels, Generation: node.Generation,
			ResourceVersion: node.ResourceVersion, DeletionTimestamp: node.DeletionTimestamp,
		},
	}, nil
}
