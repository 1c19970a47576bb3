package controller

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// goldenObjects are what the manager and the agents of the release before wrote.
func goldenObjects(t *testing.T) (images map[string]*v1alpha1.CloudImage, caches []*v1alpha1.NodeImageCache) {
	t.Helper()
	content, err := os.ReadFile("../../test/system/testdata/upgrade/objects.json")
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Items []json.RawMessage }
	if err := json.Unmarshal(content, &list); err != nil {
		t.Fatal(err)
	}
	images = map[string]*v1alpha1.CloudImage{}
	for _, item := range list.Items {
		var image v1alpha1.CloudImage
		var cache v1alpha1.NodeImageCache
		if err := json.Unmarshal(item, &image); err != nil {
			t.Fatal(err)
		}
		if image.Kind == "CloudImage" {
			images[image.Name] = &image
			continue
		}
		if err := json.Unmarshal(item, &cache); err != nil {
			t.Fatal(err)
		}
		caches = append(caches, &cache)
	}
	return images, caches
}

// TestNoRolloutAfterAnUpgrade: what is stored means to this version what it meant to the last one.
func TestNoRolloutAfterAnUpgrade(t *testing.T) {
	t.Parallel()
	images, caches := goldenObjects(t)
	orders := 0
	for name, image := range images {
		if got := revisionOf(image); got != image.Status.Revision {
			t.Errorf("%s was revision %s and is %s", name, image.Status.Revision, got)
		}
	}
	for _, cache := range caches {
		for i := range cache.Spec.Images {
			written := &cache.Spec.Images[i]
			image := images[written.Name]
			if image == nil {
				t.Errorf("%s: an order for %s, which is not there", cache.Name, written.Name)
				continue
			}
			view := viewImage(image, Snapshot{}, Memory{}, time.Now())
			wanted := orderFor(&view, written.Action)
			wanted.Retry = written.Retry
			orders++
			if !sameOrder(written, &wanted) {
				t.Errorf("%s: another order for %s: %s", cache.Name, written.Name, cmp.Diff(*written, wanted))
			}
		}
	}
	if len(images) < 10 || orders < 10 {
		t.Errorf("only %d images and %d orders were found", len(images), orders)
	}
}
