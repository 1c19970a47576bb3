package controller

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	// labelCoalesce is how long a change waits for others of the same node.
	labelCoalesce = time.Second
	// labelWorkers leave most of the API server's attention to the planner.
	labelWorkers = 4
)

type requestQueue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// SetupWithManager makes the labeler look at a node when its labels or its images
// change, and at all nodes when an image's digest, selector or existence does.
func (l *Labeler) SetupWithManager(mgr manager.Manager) error {
	return builder.ControllerManagedBy(mgr).
		Named("labeler").
		WatchesMetadata(nodeMetadata(), enqueueNamed(), builder.WithPredicates(nodeChanged())).
		Watches(&v1alpha1.NodeImageCache{}, enqueueNamed(), builder.WithPredicates(heldChanged())).
		Watches(&v1alpha1.CloudImage{}, enqueueNodes(mgr.GetClient()), builder.WithPredicates(labelsConcerned())).
		WithOptions(ctrlcontroller.Options{
			MaxConcurrentReconciles: labelWorkers,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](labelCoalesce, labelEvery),
		}).
		Complete(l)
}

// enqueueNamed looks at the node that has the object's name.
func enqueueNamed() handler.EventHandler {
	return handlerOf(func(_ context.Context, object client.Object, q requestQueue) {
		q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKey{Name: object.GetName()}}, labelCoalesce)
	})
}

// enqueueNodes looks at all nodes.
func enqueueNodes(reader client.Reader) handler.EventHandler {
	return handlerOf(func(ctx context.Context, _ client.Object, q requestQueue) {
		var nodes metav1.PartialObjectMetadataList
		nodes.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NodeList"))
		if err := reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
			log.FromContext(ctx).Error(err, "nodes could not be listed for their labels")
			return
		}
		for i := range nodes.Items {
			q.AddAfter(reconcile.Request{NamespacedName: client.ObjectKey{Name: nodes.Items[i].Name}}, labelCoalesce)
		}
	})
}

func handlerOf(enqueue func(context.Context, client.Object, requestQueue)) handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q requestQueue) { enqueue(ctx, e.Object, q) },
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q requestQueue) { enqueue(ctx, e.ObjectNew, q) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q requestQueue) { enqueue(ctx, e.Object, q) },
	}
}

// heldChanged passes the reports that change which images are ready, and leaves
// out progress, of which there is much more.
func heldChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*v1alpha1.NodeImageCache)
		after, ok2 := e.ObjectNew.(*v1alpha1.NodeImageCache)
		return !ok1 || !ok2 || !maps.Equal(heldOf(before), heldOf(after))
	}}
}

// heldOf are the digests and revisions that a node holds, by the images' names.
func heldOf(cache *v1alpha1.NodeImageCache) map[string][2]string {
	held := map[string][2]string{"": {cache.Spec.NodeUID, cache.Status.NodeUID}}
	for i := range cache.Status.Images {
		if status := &cache.Status.Images[i]; status.State == v1alpha1.StateReady {
			held[status.Name] = [2]string{status.Revision, status.Digest}
		}
	}
	return held
}

// labelsConcerned passes the changes of an image that labels depend on, and
// leaves out its counts.
func labelsConcerned() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*v1alpha1.CloudImage)
		after, ok2 := e.ObjectNew.(*v1alpha1.CloudImage)
		return !ok1 || !ok2 || before.UID != after.UID ||
			before.Status.Revision != after.Status.Revision || before.Status.Digest != after.Status.Digest ||
			before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero() ||
			!equality.Semantic.DeepEqual(before.Spec.NodeSelector, after.Spec.NodeSelector)
	}}
}
