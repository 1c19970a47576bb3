package controller

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlcontroller "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	// progressEvery is the least time between two writes that only tell progress;
	// up to half of it is added at random.
	progressEvery = 15 * time.Second
	// progressShare is what part of the time an agent's writes may take up: where
	// the API server answers late, because a large fleet writes, progress rests for
	// so many times the last answer took, up to progressMost.
	progressShare = 20
	progressMost  = 2 * time.Minute
	// firstAfter is how long the first report of a node waits, up to half of it more:
	// where many nodes join together, the orders of all of them go first.
	firstAfter = 5 * time.Second
	// catchUpAfter is how long a generation that changed nothing else waits to be
	// written, up to half of it more: other orders often follow within that, and
	// kubectl wait waits for 30 s unless it is told otherwise.
	catchUpAfter = 15 * time.Second
	// gatherFor is how long a transition waits for others, so that images that
	// change together are one write.
	gatherFor = 250 * time.Millisecond
	// lookEvery is how often the store is looked at while nothing else happens.
	lookEvery = time.Minute
)

// Reporter is the agent's reconciler: it hands the orders of its own node to
// Images and writes what they report into the object's status.
type Reporter struct {
	Client  client.Client
	Node    string
	Version string
	Store   Store
	Images  *Images
	Metrics *AgentMetrics
	Now     func() time.Time
	Random  func() float64 // in [0, 1)

	later  time.Time // when what can wait is written
	catch  time.Time // when a generation alone is; zero if the written one is the last
	health atomic.Pointer[error]
}

// Reconcile is one look at the orders, the images and the store. It never waits
// for a pull.
func (r *Reporter) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var object v1alpha1.NodeImageCache
	if err := r.Client.Get(ctx, request.NamespacedName, &object); err != nil {
		// Without the object there are no orders, and no order to delete either.
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	r.Images.Sync(object.Spec.Images, object.Status.Images)
	room, storage := r.Store.Room()
	r.Metrics.observeRoom(room)
	now := r.Now()
	if r.later.IsZero() {
		r.later = now.Add(r.jittered(firstAfter))
	}
	next := report(&object, r.Images.Statuses(), room.StorageStatus, storage, r.Version, now)
	switch worthOf(object.Status, next, object.Spec.Images) {
	case worthNothing:
		r.catch = time.Time{}
		r.setHealth(storage)
		return reconcile.Result{RequeueAfter: r.lookAgain(next)}, nil
	case worthCatchUp:
		if r.catch.IsZero() {
			r.catch = now.Add(r.jittered(catchUpAfter))
		}
		if wait := max(r.later.Sub(now), r.catch.Sub(now)); wait > 0 {
			r.setHealth(storage)
			return reconcile.Result{RequeueAfter: wait}, nil
		}
	case worthLater:
		if wait := r.later.Sub(now); wait > 0 {
			return reconcile.Result{RequeueAfter: wait}, nil
		}
	case worthNow:
	}
	updated := object.DeepCopy()
	updated.Status = next
	asked := r.Now()
	if err := r.Client.Status().Patch(ctx, updated, client.MergeFrom(&object), fieldManager); err != nil {
		if refused(err) {
			r.setHealth(fmt.Errorf("the API server refuses this node's status: %w", err))
		}
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	answered := r.Now()
	r.catch = time.Time{}
	r.later = answered.Add(r.jittered(min(max(progressEvery, progressShare*answered.Sub(asked)), progressMost)))
	r.setHealth(storage)
	return reconcile.Result{RequeueAfter: r.lookAgain(next)}, nil
}

// refused tells a write that the API server will not take from this agent from
// one that fails because the server is away: only the first makes it unready.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) || apierrors.IsInvalid(err)
}

// lookAgain is soon while a pull makes progress, and now and then otherwise.
func (r *Reporter) lookAgain(status v1alpha1.NodeImageCacheStatus) time.Duration {
	for i := range status.Images {
		if status.Images[i].State == v1alpha1.StatePulling {
			return r.jittered(progressEvery)
		}
	}
	return r.jittered(lookEvery)
}

func (r *Reporter) jittered(pause time.Duration) time.Duration {
	return pause + time.Duration(float64(pause)*r.Random()/2)
}

func (r *Reporter) setHealth(err error) { r.health.Store(&err) }

// Healthy is nil while the store is usable and the API server takes this node's
// status; it is what the Pod's readiness tells, and so the node's availability.
func (r *Reporter) Healthy() error {
	if err := r.health.Load(); err != nil {
		return *err
	}
	return nil
}

// SetupWithManager makes the reporter run on changes of its own object and of its images.
func (r *Reporter) SetupWithManager(mgr manager.Manager) error {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	own := reconcile.Request{NamespacedName: client.ObjectKey{Name: r.Node}}
	return builder.ControllerManagedBy(mgr).
		Named("reporter").
		For(&v1alpha1.NodeImageCache{}).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			go r.forward(ctx, own, q)
			return nil
		})).
		WithOptions(ctrlcontroller.Options{
			MaxConcurrentReconciles: 1,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](gatherFor, lookEvery),
		}).
		Complete(r)
}

// forward turns changes of the images into requests until the context ends.
func (r *Reporter) forward(ctx context.Context, own reconcile.Request, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
	for {
		select {
		case <-r.Images.Changed():
			q.AddAfter(own, gatherFor)
		case <-ctx.Done():
			return
		}
	}
}

// AgentCache restricts the informer to the one object of a node: the API server
// indexes such a watch, so an event reaches one agent and not five thousand.
func AgentCache(node string) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&v1alpha1.NodeImageCache{}: {Field: fields.OneTermEqualSelector("metadata.name", node)},
		},
	}
}
