package controller

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// maxImages is how many images the object of a node may list (the maxItems of
// spec.images). With the longest URLs, and reports of the longest messages, that
// is 1.2 MB of the 1.5 MiB that etcd takes.
const maxImages = 500

// leaveOut marks the images that find no place in the object of a node. Those
// that it lists keep theirs; the rest goes to the oldest of the others.
func leaveOut(views []imageView, s Snapshot) {
	crowded := map[string][]*nodeView{}
	for _, node := range s.Nodes {
		if len(views)+listed(s.Caches[node.Name]) > maxImages {
			crowded[node.Name] = nil
		}
	}
	if len(crowded) == 0 {
		return
	}
	images := map[*nodeView]*imageView{}
	for i := range views {
		for j := range views[i].nodes {
			n := &views[i].nodes[j]
			fresh, found := crowded[n.node.Name]
			if !found || (n.cache != nil && orderIn(n.cache, views[i].image.Name) != nil) {
				continue
			}
			crowded[n.node.Name] = append(fresh, n)
			images[n] = &views[i]
		}
	}
	for name, fresh := range crowded {
		room := max(0, maxImages-listed(s.Caches[name]))
		if len(fresh) <= room {
			continue
		}
		slices.SortFunc(fresh, func(a, b *nodeView) int { return compareAge(images[a].image, images[b].image) })
		for _, n := range fresh[room:] {
			n.leaveOut(images[n])
		}
	}
}

// listed is how many entries an object has, those to be removed too.
func listed(cache *v1alpha1.NodeImageCache) int {
	if cache == nil {
		return 0
	}
	return len(cache.Spec.Images)
}

func compareAge(a, b *v1alpha1.CloudImage) int {
	if byTime := a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time); byTime != 0 {
		return byTime
	}
	return cmp.Compare(a.Name, b.Name)
}

// leaveOut makes a node say of an image that there is no place for it.
func (n *nodeView) leaveOut(v *imageView) {
	n.leftOut = true
	n.status = &v1alpha1.ImageStatus{
		Name: v.image.Name, Revision: v.revision, State: v1alpha1.StateFailed, Reason: v1alpha1.ReasonNodeImageLimit,
		Message: fmt.Sprintf("%d other images take all the places of the node", maxImages),
	}
	n.state = v.stateOf(*n)
	n.tried, n.dormant, n.ended = 0, false, false // were of what the node reported
}
