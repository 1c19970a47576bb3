package system

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// observer holds what must be true at any moment, whatever was broken, against every object that the API server shows.
type observer struct {
	*world
	t      *testing.T
	stores map[string]string // by the name of the node

	mu     sync.Mutex
	images map[string][]v1alpha1.CloudImage // every version seen, by name
}

// observe watches the images and the nodes of a group from now to the end of the test.
func (g *group) observe(t *testing.T) *observer {
	t.Helper()
	o := &observer{world: g.world, t: t, stores: map[string]string{}, images: map[string][]v1alpha1.CloudImage{}}
	for _, node := range g.nodes {
		o.stores[node.Name] = node.Store
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var watches sync.WaitGroup
	watches.Go(func() { o.watch(ctx, &v1alpha1.CloudImageList{}, o.seeImage) })
	watches.Go(func() {
		o.watch(ctx, &v1alpha1.NodeImageCacheList{}, func(object runtime.Object) { o.seeCache(ctx, object) })
	})
	t.Cleanup(func() {
		cancel()
		watches.Wait()
		for _, node := range g.nodes {
			blobs(t, node) // fails the test when one has wrong bytes
		}
	})
	return o
}

// of returns every version of an image that was seen, in order; a few may be missing where the API server was away.
func (o *observer) of(image string) []v1alpha1.CloudImage {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]v1alpha1.CloudImage(nil), o.images[image]...)
}

// watch begins again after every end: the API server may be away.
func (o *observer) watch(ctx context.Context, list client.ObjectList, see func(runtime.Object)) {
	for ctx.Err() == nil {
		watcher, err := o.client.Watch(ctx, list) // begins with all objects as they are
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		for event := range watcher.ResultChan() {
			see(event.Object)
		}
		watcher.Stop()
	}
}

func (o *observer) seeImage(object runtime.Object) {
	image, ok := object.(*v1alpha1.CloudImage)
	if !ok {
		return // the error that ends a watch
	}
	n := image.Status.Nodes
	if n.Ready+n.Pulling+n.Pending+n.Failed+n.Unavailable != n.Desired {
		o.t.Errorf("image %s: the counts do not add up: %+v", image.Name, n)
	}
	stalled := meta.IsStatusConditionTrue(image.Status.Conditions, v1alpha1.ConditionStalled)
	if stalled && meta.IsStatusConditionTrue(image.Status.Conditions, v1alpha1.ConditionReconciling) {
		o.t.Errorf("image %s is Stalled and Reconciling", image.Name)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.images[image.Name] = append(o.images[image.Name], *image)
}

// seeCache looks for the bytes of every image that a node reports as Ready.
func (o *observer) seeCache(ctx context.Context, object runtime.Object) {
	cache, ok := object.(*v1alpha1.NodeImageCache)
	if !ok || o.stores[cache.Name] == "" {
		return
	}
	for _, image := range cache.Status.Images {
		if image.State != v1alpha1.StateReady || o.stands(cache.Name, image.Digest) {
			continue
		}
		if o.saysReady(ctx, cache, image) && !o.stands(cache.Name, image.Digest) {
			o.t.Errorf("node %s reports %s as Ready, and there is no blob %q", cache.Name, image.Name, image.Digest)
		}
	}
}

// saysReady tells whether a report is still what the API server holds, and nobody ordered to remove the image: bytes go before the
// report says so.
func (o *observer) saysReady(ctx context.Context, cache *v1alpha1.NodeImageCache, image v1alpha1.ImageStatus) bool {
	var now v1alpha1.NodeImageCache
	if err := o.client.Get(ctx, client.ObjectKeyFromObject(cache), &now); err != nil || now.UID != cache.UID {
		return false
	}
	for _, order := range now.Spec.Images {
		if order.Name == image.Name && order.Action == v1alpha1.ActionRemove {
			return false
		}
	}
	for _, status := range now.Status.Images {
		if status.Name == image.Name {
			return status.State == v1alpha1.StateReady && status.Digest == image.Digest
		}
	}
	return false
}

func (o *observer) stands(node, digest string) bool {
	_, err := os.Stat(blobPath(o.stores[node], digest))
	return err == nil
}

func blobPath(store, digest string) string {
	return filepath.Join(store, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}
