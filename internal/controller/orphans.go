package controller

import (
	"cmp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// orphanedFor is how long an object may be without its Node before it is deleted:
// the informer of Nodes may be behind that of the objects. Kubernetes' garbage
// collector deletes the usual ones before that; it leaves those that name no owner.
const orphanedFor = 10 * time.Second

// orphans are the objects that no Node has the name of, by name.
func (s Snapshot) orphans() []*v1alpha1.NodeImageCache {
	found := 0
	for i := range s.Nodes {
		if s.Caches[s.Nodes[i].Name] != nil {
			found++
		}
	}
	if found == len(s.Caches) {
		return nil // as nearly always
	}
	var orphans []*v1alpha1.NodeImageCache
	for name, cache := range s.Caches {
		if _, ok := slices.BinarySearchFunc(s.Nodes, name, func(n Node, name string) int { return cmp.Compare(n.Name, name) }); !ok {
			orphans = append(orphans, cache)
		}
	}
	slices.SortFunc(orphans, func(a, b *v1alpha1.NodeImageCache) int { return cmp.Compare(a.Name, b.Name) })
	return orphans
}

// observeOrphans is since when each object is without its Node.
func (m Memory) observeOrphans(s Snapshot, now time.Time) map[types.UID]time.Time {
	since := map[types.UID]time.Time{}
	for _, cache := range s.orphans() {
		since[cache.UID] = now
		if before, ok := m.orphans[cache.UID]; ok {
			since[cache.UID] = before
		}
	}
	return since
}

// planOrphans deletes the objects whose Node is gone, or was never there.
func (p *Plan) planOrphans(s Snapshot, m Memory, now time.Time) {
	for _, cache := range s.orphans() {
		since, ok := m.orphans[cache.UID]
		if !ok {
			since = now
		}
		if at := since.Add(orphanedFor); now.Before(at) {
			p.Next = earliest(p.Next, at)
			continue
		}
		p.Orphans = append(p.Orphans, cache)
	}
}

// owner is the reference by which the object of a node goes when its Node does.
func owner(node, uid string) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node, UID: types.UID(uid)}
}

// owned tells whether an object has that reference, of the machine it speaks of.
func owned(cache *v1alpha1.NodeImageCache) bool {
	return slices.ContainsFunc(cache.OwnerReferences, func(r metav1.OwnerReference) bool {
		return r.Kind == "Node" && string(r.UID) == cache.Spec.NodeUID
	})
}
