package controller

import (
	"sort"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// orderIn finds an image among the orders of a node, which are sorted by name.
func orderIn(cache *v1alpha1.NodeImageCache, image string) *v1alpha1.AssignedImage {
	orders := cache.Spec.Images
	if i, found := find(len(orders), image, func(i int) string { return orders[i].Name }); found {
		return &orders[i]
	}
	return nil
}

// statusIn is what is believed of a node's report of an image; nil as well for a
// report that answers the orders of another machine under the same name.
func statusIn(cache *v1alpha1.NodeImageCache, image string) *v1alpha1.ImageStatus {
	if reported := reportedIn(cache, image); reported != nil {
		return plausible(reported)
	}
	return nil
}

// reportedIn finds an image in a node's report, which agents sort by name.
func reportedIn(cache *v1alpha1.NodeImageCache, image string) *v1alpha1.ImageStatus {
	if cache.Status.NodeUID != cache.Spec.NodeUID {
		return nil
	}
	statuses := cache.Status.Images
	if i, found := find(len(statuses), image, func(i int) string { return statuses[i].Name }); found {
		return &statuses[i]
	}
	return nil
}

// find searches n sorted names. A pass does this for every image of every node,
// and the entries are too large to hand to a comparison by value.
func find(n int, name string, at func(int) string) (int, bool) {
	i := sort.Search(n, func(i int) bool { return at(i) >= name })
	return i, i < n && at(i) == name
}
