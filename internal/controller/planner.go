package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// writers is how many objects are written at the same time in one pass. An API
// server that many agents write to at the same time answers late, and a share of
// its time goes to those who ask for more at once.
const writers = 64

// writeFor is how long a pass writes orders. What is left then is planned anew,
// with what has changed meanwhile: orders of thousands of nodes take minutes, and
// other images would wait for them.
const writeFor = 5 * time.Second

// Planner reconciles everything at once: each pass looks at all images and nodes,
// so that its decisions are made from one snapshot and by one goroutine.
type Planner struct {
	Client  client.Client
	Agents  AgentPods
	Events  events.EventRecorder
	Metrics *ManagerMetrics
	Now     func() time.Time

	memory   Memory
	written  *assumed
	statuses pace
	pruned   pruned
	failures failureEvents
	// writtenTo is the node whose orders a pass wrote last before its time was up;
	// empty if it wrote all.
	writtenTo string
	// outdated: a write of this pass was refused because its object had changed.
	outdated bool
	// rest is how long the next pass is put off, in nanoseconds.
	rest atomic.Int64
}

// Reconcile is one pass: gather, plan, act, summarize. The request carries nothing.
func (p *Planner) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	started := p.Now()
	p.outdated = false
	snapshot, err := gather(ctx, p.Client, p.Agents)
	if err != nil {
		return reconcile.Result{}, err
	}
	if p.written == nil {
		p.written, p.statuses = newAssumed(), pace{}
	}
	believed := p.written.overlay(snapshot, started)
	p.memory = p.memory.Observe(snapshot, started)
	plan := MakePlan(snapshot, p.memory, started)
	p.memory.tallies = plan.tallies
	p.Metrics.observePlan(&plan, p.Now().Sub(started))
	p.Metrics.observeSnapshot(snapshot, p.memory, started)
	p.rest.Store(int64(restAfter(p.Now().Sub(started))))

	err = errors.Join(p.writeOrders(ctx, &plan), p.writeFinalizers(ctx, &plan))
	later, statusErr := p.writeStatuses(ctx, &plan, snapshot)
	result := reconcile.Result{}
	if p.writtenTo != "" {
		return reconcile.Result{RequeueAfter: coalesce}, errors.Join(err, statusErr)
	}
	next := earliest(earliest(plan.Next, later), believed)
	if p.outdated { // the event of that change makes the next pass; this is for one that never comes
		next = earliest(next, started.Add(retryMax))
	}
	if !next.IsZero() {
		result.RequeueAfter = max(time.Second, next.Sub(p.Now()))
	}
	return result, errors.Join(err, statusErr)
}

// writeOrders writes the orders of every node that has new ones, or of as many as
// it can in time, beginning after those of the last pass. Every write carries the
// generation it was planned from.
func (p *Planner) writeOrders(ctx context.Context, plan *Plan) error {
	until := p.Now().Add(writeFor)
	var mu sync.Mutex
	var failures []error
	deleted := slices.Concat(plan.Replace, plan.Orphans)
	for _, cache := range deleted {
		p.written.forget(cache.Name) // what was written to it speaks of a machine that is gone, too
	}
	group := errgroup.Group{}
	group.SetLimit(writers)
	write := func(name string, do func() (*v1alpha1.NodeImageCache, error)) {
		group.Go(func() error {
			object, err := do()
			mu.Lock()
			defer mu.Unlock()
			if apierrors.IsNotFound(err) {
				p.written.forget(name)
			}
			if err != nil {
				// Where this is outdated what was written before still holds: forgetting it
				// would show a stale informer's slots as free.
				failures = append(failures, fmt.Errorf("orders of node %s: %w", name, err))
			}
			switch {
			case object == nil:
			case err == nil:
				p.written.remember(object, p.Now(), assumedFor)
			case inDoubt(err):
				p.written.remember(object, p.Now(), doubtedFor)
			}
			return nil
		})
	}
	for _, cache := range deleted {
		write(cache.Name, func() (*v1alpha1.NodeImageCache, error) { return nil, p.delete(ctx, cache) })
	}
	for _, cache := range plan.Adopt {
		write(cache.Name, func() (*v1alpha1.NodeImageCache, error) { return nil, p.adopt(ctx, cache) })
	}
	todo := after(p.writtenTo, slices.Concat(plan.Create, plan.Update))
	p.writtenTo = ""
	for i, orders := range todo {
		write(orders.Node.Name, func() (*v1alpha1.NodeImageCache, error) {
			if orders.Cache == nil {
				return p.create(ctx, orders)
			}
			return p.update(ctx, orders)
		})
		if i < len(todo)-1 && p.Now().After(until) {
			p.writtenTo = orders.Node.Name
			break
		}
	}
	_ = group.Wait() // the functions return nil; failures are collected, so that one node does not stop the others
	return p.joinWriteErrors(failures)
}

// after sorts orders by node, from the one that follows the given one on.
func after(node string, orders []Orders) []Orders {
	slices.SortFunc(orders, func(a, b Orders) int { return cmp.Compare(a.Node.Name, b.Node.Name) })
	from, found := slices.BinarySearchFunc(orders, node, func(o Orders, name string) int { return cmp.Compare(o.Node.Name, name) })
	if found {
		from++
	}
	return slices.Concat(orders[from:], orders[:from])
}

func (p *Planner) delete(ctx context.Context, cache *v1alpha1.NodeImageCache) error {
	uid, version := cache.UID, cache.ResourceVersion
	err := p.Client.Delete(ctx, cache.DeepCopy(), client.Preconditions{UID: &uid, ResourceVersion: &version})
	return client.IgnoreNotFound(err)
}

// adopt names an object's Node as its owner, beside those that it has.
func (p *Planner) adopt(ctx context.Context, cache *v1alpha1.NodeImageCache) error {
	updated := cache.DeepCopy()
	updated.OwnerReferences = append(updated.OwnerReferences, owner(cache.Name, cache.Spec.NodeUID))
	return p.Client.Patch(ctx, updated, client.MergeFromWithOptions(cache, client.MergeFromWithOptimisticLock{}))
}

func (p *Planner) create(ctx context.Context, orders Orders) (*v1alpha1.NodeImageCache, error) {
	cache := &v1alpha1.NodeImageCache{
		ObjectMeta: metav1.ObjectMeta{
			Name: orders.Node.Name, OwnerReferences: []metav1.OwnerReference{owner(orders.Node.Name, orders.Node.UID)},
		},
		Spec: v1alpha1.NodeImageCacheSpec{NodeUID: orders.Node.UID, Images: orders.Images},
	}
	return cache, p.Client.Create(ctx, cache)
}

// update returns the object as it is now or, after an error, as it may be.
func (p *Planner) update(ctx context.Context, orders Orders) (*v1alpha1.NodeImageCache, error) {
	patch, err := OrdersPatch(orders.Cache, orders.Images)
	if err != nil {
		return nil, err
	}
	updated := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: orders.Cache.Name}}
	if err := p.Client.Patch(ctx, updated, patch); err != nil {
		updated = orders.Cache.DeepCopy()
		updated.Spec.Images, updated.Generation = orders.Images, updated.Generation+1
		return updated, err
	}
	return updated, nil
}

func (p *Planner) writeFinalizers(ctx context.Context, plan *Plan) error {
	var failures []error
	change := func(image *v1alpha1.CloudImage, edit func(client.Object, string) bool) {
		updated := image.DeepCopy()
		edit(updated, v1alpha1.Finalizer)
		err := p.Client.Patch(ctx, updated, client.MergeFromWithOptions(image, client.MergeFromWithOptimisticLock{}))
		if client.IgnoreNotFound(err) != nil {
			failures = append(failures, fmt.Errorf("finalizer of cloud image %s: %w", image.Name, err))
		}
	}
	for _, image := range plan.AddFinalizer {
		change(image, controllerutil.AddFinalizer)
	}
	for _, image := range plan.DropFinalizer {
		change(image, controllerutil.RemoveFinalizer)
	}
	return p.joinWriteErrors(failures)
}

// writeStatuses writes the status of every image whose status changed, and then
// its events. It returns when those that rest are due; zero for none.
func (p *Planner) writeStatuses(ctx context.Context, plan *Plan, s Snapshot) (later time.Time, err error) {
	now := p.Now()
	var mu sync.Mutex
	var failures []error
	group := errgroup.Group{}
	group.SetLimit(writers)
	write := func(image *v1alpha1.CloudImage, status v1alpha1.CloudImageStatus) {
		if equality.Semantic.DeepEqual(image.Status, status) || p.pruned.is(image, &status, now) {
			return
		}
		if due := p.statuses.due(image, &status, now); due.After(now) {
			later = earliest(later, due)
			return
		}
		p.statuses.wrote(image, &status, now)
		group.Go(func() error {
			err := p.writeStatus(ctx, image, status)
			mu.Lock()
			defer mu.Unlock()
			failures = append(failures, err)
			return nil
		})
	}
	for i := range plan.views {
		view := &plan.views[i]
		write(view.image, summarize(view, &plan.rollouts[i], now))
	}
	for _, image := range s.Images {
		if remaining := plan.removing[image.Name]; remaining > 0 {
			write(image, summarizeRemoval(image, remaining, plan.keepers[image.Name], now))
		}
	}
	_ = group.Wait() // as above
	p.pruned.keep(s.Images)
	return later, p.joinWriteErrors(failures)
}

func (p *Planner) writeStatus(ctx context.Context, image *v1alpha1.CloudImage, status v1alpha1.CloudImageStatus) error {
	updated := image.DeepCopy()
	updated.Status = status
	patch := client.MergeFromWithOptions(image, client.MergeFromWithOptimisticLock{})
	if err := p.Client.Status().Patch(ctx, updated, patch); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("status of cloud image %s: %w", image.Name, err)
	}
	p.pruned.wrote(image, updated, &status, p.Now())
	for _, t := range transitions(&image.Status, &status) {
		if t.node != "" && !p.failures.tell(image.UID, t.node, p.Now()) {
			continue
		}
		p.Events.Eventf(updated, nil, t.kind, t.reason, t.action, "%s", t.message)
		log.FromContext(ctx).Info("cloud image changed", "cloudImage", image.Name, "reason", t.reason, "message", t.message)
	}
	return nil
}

// joinWriteErrors joins errors but for those of outdated writes: the object changed
// since the snapshot, and the next pass sees it.
func (p *Planner) joinWriteErrors(failures []error) error {
	var others []error
	for _, err := range failures {
		if err != nil && IsOutdated(err) {
			p.outdated = true
			continue
		}
		others = append(others, err)
	}
	return errors.Join(others...)
}
