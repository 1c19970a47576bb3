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
	// Orphans are objects that no Node has the name of, to be deleted.
	Orphans []*v1alpha1.NodeImageCache
	// Adopt are objects that do not name their Node as their owner.
	Adopt []*v1alpha1.NodeImageCache
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
	orders, busy := ordersByNode{}, slotsByNode{}
	kept := keptOrders{deleting: map[string]*v1alpha1.CloudImage{}, asIs: map[string]bool{}}
	for _, image := range s.Images {
		if !image.DeletionTimestamp.IsZero() {
			kept.deleting[image.Name] = image
			continue
		}
		if !controllerutil.ContainsFinalizer(image, v1alpha1.Finalizer) {
			p.AddFinalizer = append(p.AddFinalizer, image)
			// No order goes out before the finalizer is there, or a deletion in
			// between would leave blobs that nobody removes. Those of an image that lost
			// it, as by an uninstall, stay.
			kept.asIs[image.Name] = true
			if until := m.youngUntil(image.Name, now); now.Before(until) {
				kept.young = true
				p.Next = earliest(p.Next, until)
			}
			continue
		}
		view := viewImage(image, s, m, now)
		view.elect()
		view.settle()
		busy.count(&view)
		p.views = append(p.views, view)
	}
	leaveOut(p.views, s)
	for i := range p.views {
		view := &p.views[i]
		kept.asIs[view.image.Name] = view.selector != nil
		p.planImage(view, rollOut(view, m, busy, now), orders)
	}
	p.planNodes(s, orders, kept, m, now)
	p.planOrphans(s, m, now)
	for _, image := range s.Images {
		if kept.deleting[image.Name] != nil && p.removing[image.Name] == 0 &&
			controllerutil.ContainsFinalizer(image, v1alpha1.Finalizer) {
			p.DropFinalizer = append(p.DropFinalizer, image)
		}
	}
	return p
}

func (p *Plan) planImage(view *imageView, decided rollout, orders ordersByNode) {
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

// keptOrders says which orders of earlier passes stay, changed or not.
type keptOrders struct {
	// deleting are the images that are being deleted, by name.
	deleting map[string]*v1alpha1.CloudImage
	// asIs are the names of images that no orders were planned for: they have no
	// finalizer yet, or their selector cannot be used. A typing error must not make
	// nodes forget them.
	asIs map[string]bool
	// young: images without any order yet may name bytes that others are about to
	// give up, as after a rename. Nothing new is removed in such a pass. One whose
	// finalizer is refused all the time holds nobody up for longer than youngFor.
	young bool
}

// planNodes compares the orders of every node with what is written.
func (p *Plan) planNodes(s Snapshot, orders ordersByNode, kept keptOrders, m Memory, now time.Time) {
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
			if !owned(cache) {
				p.Adopt = append(p.Adopt, cache)
			}
			at, gone := m.unavailableAt(node.Name)
			images := p.addKept(cache, orders[node.Name], kept, gone && !now.Before(at))
			if !sameOrders(cache.Spec.Images, images) {
				p.Update = append(p.Update, Orders{Node: node, Cache: cache, Images: values(images)})
			}
		}
	}
}

// addKept adds the orders that stay as they are, and those to remove: of images
// that are being deleted, and earlier ones that the node has not carried out, even
// if the image is gone.
func (p *Plan) addKept(cache *v1alpha1.NodeImageCache, images []*v1alpha1.AssignedImage, kept keptOrders, unavailable bool) []*v1alpha1.AssignedImage {
	ordered := len(images)
	for i := range cache.Spec.Images {
		order := &cache.Spec.Images[i]
		if _, found := find(ordered, order.Name, func(i int) string { return images[i].Name }); found {
			continue
		}
		if kept.asIs[order.Name] {
			images = append(images, order)
			continue
		}
		image := kept.deleting[order.Name]
		if !removes(cache, order, image) {
			continue
		}
		removal := *order
		if !kept.young {
			removal.Action = v1alpha1.ActionRemove
		}
		images = append(images, &removal)
		// A node that is away is not waited for, but its order has to be written: when
		// the image is gone nobody knows any more that the bytes were to go.
		if image != nil && (!unavailable || order.Action != v1alpha1.ActionRemove) {
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

// removes tells whether a node is to remove an image that is not assigned to it
// any more. The image is nil when it is gone.
func removes(cache *v1alpha1.NodeImageCache, order *v1alpha1.AssignedImage, image *v1alpha1.CloudImage) bool {
	if order.Action == v1alpha1.ActionRemove {
		return !dropped(cache, order.Name)
	}
	return image != nil && image.Spec.DeletionPolicy != v1alpha1.DeletionRetain
}

// dropped tells whether a node has carried out the order to remove an image: it
// has seen the orders as they are now, and does not list the image any more.
func dropped(cache *v1alpha1.NodeImageCache, image string) bool {
	return cache.Status.ObservedGeneration == cache.Generation && statusIn(cache, image) == nil
}
