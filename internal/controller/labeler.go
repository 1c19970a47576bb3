package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// labelEvery is the least time between two patches of one Node: every watcher of
// Nodes is told of each.
const labelEvery = 10 * time.Second

// Labeler keeps the labels of Nodes that tell which images are ready there, so
// that virtual machines can be scheduled onto warm nodes.
type Labeler struct {
	Client client.Client
	Now    func() time.Time

	mu      sync.Mutex
	patched map[string]time.Time
	flipped map[string]flips // by node
}

// Reconcile compares the labels of one Node with what it holds.
func (l *Labeler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	node := nodeMetadata()
	if err := l.Client.Get(ctx, request.NamespacedName, node); err != nil {
		if apierrors.IsNotFound(err) {
			l.forget(request.Name)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("get node %s: %w", request.Name, err)
	}
	changes, unselected, err := l.changes(ctx, node)
	if err != nil || len(changes) == 0 || !node.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, err
	}
	result, now := reconcile.Result{}, l.Now()
	changes, next := l.flipsOf(node.Name).held(changes, node.Labels, now)
	if !next.IsZero() {
		result.RequeueAfter = next.Sub(now) // above 0: nothing else may look again
		log.FromContext(ctx).Info("a label is held back: it comes and goes, because a nodeSelector undoes itself through the labels of images",
			"node", node.Name, "until", next)
	}
	if len(changes) == 0 {
		return result, nil
	}
	if wait := l.wait(node.Name); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	// The uid makes the API server refuse the labels of one machine for another
	// that has its name now.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": node.UID, "labels": changes}})
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("encode the labels of node %s: %w", node.Name, err)
	}
	err = l.Client.Patch(ctx, node, client.RawPatch(types.MergePatchType, patch))
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil // the event of the other machine makes another look
	}
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("label node %s: %w", node.Name, err)
	}
	l.wrote(node.Name, changes, unselected)
	return result, nil
}

// changes are those of a Node's labels, and the labels of images that do not select it.
func (l *Labeler) changes(ctx context.Context, node *metav1.PartialObjectMetadata) (map[string]*string, map[string]bool, error) {
	cache := &v1alpha1.NodeImageCache{}
	err := l.Client.Get(ctx, client.ObjectKey{Name: node.Name}, cache, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) {
		cache, err = nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("get node image cache %s: %w", node.Name, err)
	}
	var images v1alpha1.CloudImageList
	if err := l.Client.List(ctx, &images, client.UnsafeDisableDeepCopy); err != nil {
		return nil, nil, fmt.Errorf("list cloud images: %w", err)
	}
	changes := labelChanges(node.Labels, wantedLabels(node.Labels, string(node.UID), cache, images.Items))
	if len(changes) == 0 { // as nearly always
		return nil, nil, nil
	}
	return changes, unselected(node.Labels, images.Items), nil
}

func (l *Labeler) flipsOf(node string) flips {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flipped[node] // is replaced, never written to
}

// wrote notes what a patch took away from a Node because it is not selected any more.
func (l *Labeler) wrote(node string, changes map[string]*string, unselected map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.flipped[node].after(changes, unselected, l.Now())
	switch {
	case len(next) == 0:
		delete(l.flipped, node)
	case l.flipped == nil:
		l.flipped = map[string]flips{node: next}
	default:
		l.flipped[node] = next
	}
}

// wait is how long the next patch of a Node has to wait; 0 lets it go out, and
// counts it.
func (l *Labeler) wait(node string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.Now()
	if last, ok := l.patched[node]; ok && now.Sub(last) < labelEvery {
		return labelEvery - now.Sub(last)
	}
	if l.patched == nil {
		l.patched = map[string]time.Time{}
	}
	l.patched[node] = now
	return 0
}

func (l *Labeler) forget(node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.patched, node)
	delete(l.flipped, node)
}

// nodeMetadata is a Node without spec and status: the manager keeps no more of it.
func nodeMetadata() *metav1.PartialObjectMetadata {
	node := &metav1.PartialObjectMetadata{}
	node.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	return node
}
