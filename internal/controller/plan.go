package controller

import (
	"cmp"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// Plan is what one pass writes, and what it knows of each image for the summary.
type Plan struct {
	// Create are the nodes that need a NodeImageCache, with its first orders.
	Create []Orders
	// Update are the nodes whose orders change.
	Update []Orders
	// Replace are objects that speak of a machine that is gone: deleted, and made
	// anew in the next pass.
	Replace []*v1alpha1.NodeImageCache
	// AddFinalizer and DropFinalizer are images by name.
	AddFinalizer, DropFinalizer []*v1alpha1.CloudImage
	// Next is when the plan may change by time alone; zero if it cannot.
	Next time.Time

	views    []imageView
	rollouts []rollout
	// tallies are for the memory of the next pass.
	tallies map[revisionKey]tally
	// removing counts, by the name of an image that is being deleted, the
	// available nodes that have not dropped it.
	removing map[string]int
	// keepers names the first of those nodes.
	keepers map[string]string
}

// Orders is the complete list of images of one node.
type Orders struct {
	Node   Node
	Cache  *v1alpha1.NodeImageCache // what the orders replace; nil on create
	Images []v1alpha1.AssignedImage
}

// MakePlan decides the orders of every node. It is a function of its arguments
// alone: the same snapshot gives the same plan in every process.
func MakePlan(s Snapshot, m Memory, now time.Time) Plan {
	p := Plan{removing: map[string]int{}, keepers: map[string]string{}, tallies: map[revisionKey]tally{}}
	orders := ordersByNode{}
	deleting := map[string]*v1alpha1.CloudImage{}
	for _, image := range s.Images {
		if !image.DeletionTimestamp.IsZero() {
			deleting[image.Name] = image
			continue
		}
		if !controllerutil.ContainsFinalizer(image, v1alpha1.Finalizer) {
			p.AddFinalizer = append(p.AddFinalizer, image)
			// No order goes out before the finalizer is there, or a deletion in
			// between would leave blobs that nobody removes.
			continue
		}
		p.views = append(p.views, viewImage(image, s, m, now))
	}
	leaveOut(p.views, s)
	for i := range p.views {
		p.planImage(&p.views[i], m, now, orders)
	}
	p.planNodes(s, orders, deleting, m, now)
	for _, image := range s.Images {
		if deleting[image.Name] != nil && p.removing[image.Name] == 0 &&
			controllerutil.ContainsFinalizer(image, v1alpha1.Finalizer) {
			p.DropFinalizer = append(p.DropFinalizer, image)
		}
	}
	return p
}

func (p *Plan) planImage(view *imageView, m Memory, now time.Time, orders ordersByNode) {
	view.settle()
	decided := rollOut(view, m, now)
	hold, pull := orderFor(view, v1alpha1.ActionHold), orderFor(view, v1alpha1.ActionPull)
	for i := range view.nodes {
		n := &view.nodes[i]
		if n.leftOut {
			continue
		}
		name, order := n.node.Name, &hold
		if decided.pull[name] {
			order = &pull
		}
		if retry := max(n.retry(), decided.retry[name]); retry > 0 {
			other := *order
			other.Retry = retry
			order = &other
		}
		orders[name] = append(orders[name], order)
	}
	p.Next = earliest(p.Next, decided.next)
	p.rollouts = append(p.rollouts, decided)
	p.tallies[revisionKey{view.image.Name, view.revision}] = decided.tally
}

// planNodes compares the orders of every node with what is written.
func (p *Plan) planNodes(s Snapshot, orders ordersByNode, deleting map[string]*v1alpha1.CloudImage, m Memory, now time.Time) {
	for _, node := range s.Nodes {
		if at, ok := m.unavailableAt(node.Name); ok && now.Before(at) {
			p.Next = earliest(p.Next, at)
		}
		cache := s.Caches[node.Name]
		switch {
		case cache == nil && node.HasAgent && !node.Deleting:
			p.Create = append(p.Create, Orders{Node: node, Images: values(orders[node.Name])})
		case cache == nil, node.Deleting:
			// A node on its way out keeps what it has; its object goes with it.
		case cache.Spec.NodeUID != node.UID:
			p.Replace = append(p.Replace, cache)
		default:
			at, gone := m.unavailableAt(node.Name)
			images := p.addRemovals(cache, orders[node.Name], deleting, gone && !now.Before(at))
			if !sameOrders(cache.Spec.Images, images) {
				p.Update = append(p.Update, Orders{Node: node, Cache: cache, Images: values(images)})
			}
		}
	}
}

// addRemovals adds the orders to remove: those of images that are being deleted,
// and earlier ones that the node has not carried out, even if the image is gone.
func (p *Plan) addRemovals(cache *v1alpha1.NodeImageCache, images []*v1alpha1.AssignedImage, deleting map[string]*v1alpha1.CloudImage, unavailable bool) []*v1alpha1.AssignedImage {
	ordered := len(images)
	for i := range cache.Spec.Images {
		order := &cache.Spec.Images[i]
		if _, found := find(ordered, order.Name, func(i int) string { return images[i].Name }); found {
			continue
		}
		image := deleting[order.Name]
		if order.Action != v1alpha1.ActionRemove && (image == nil || image.Spec.DeletionPolicy == v1alpha1.DeletionRetain) {
			continue
		}
		if order.Action == v1alpha1.ActionRemove && dropped(cache, order.Name) {
			continue
		}
		removal := *order
		removal.Action = v1alpha1.ActionRemove
		images = append(images, &removal)
		if image != nil && !unavailable {
			if p.removing[image.Name]++; p.removing[image.Name] == 1 {
				p.keepers[image.Name] = cache.Name
			}
		}
	}
	if len(images) > ordered {
		slices.SortFunc(images, func(a, b *v1alpha1.AssignedImage) int { return cmp.Compare(a.Name, b.Name) })
	}
	return images
}

// dropped tells whether a node has carried out the order to remove an image: it
// has seen the orders as they are now, and does not list the image any more.
func dropped(cache *v1alpha1.NodeImageCache, image string) bool {
	return cache.Status.ObservedGeneration == cache.Generation && statusIn(cache, image) == nil
}
