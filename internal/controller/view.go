package controller

import (
	"cmp"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// nodeState is what one node counts as in an image's status.
type nodeState uint8

const (
	nodePending nodeState = iota
	nodePulling
	nodeReady
	nodeFailed
	nodeUnavailable
)

// imageView is one image as seen across the nodes it selects: what both the plan
// and the summary are made from.
type imageView struct {
	image    *v1alpha1.CloudImage
	revision string
	digest   string // that every node must match; empty while unknown
	// pin is the digest that the nodes found, to be written into the image's status
	// before anything else is granted; empty if there is nothing to pin. split are
	// the sides of a vote that decided nothing.
	pin      string
	split    []side
	selector error // why the node selector cannot be used
	matched  int   // nodes that the selector matches, with or without an agent
	// terminating are nodes that the selector matches and that are being deleted.
	terminating int
	nodes       []nodeView
	// leaving are nodes that are being deleted, and go on pulling until they are gone.
	leaving []nodeView
	// latest is the highest retry that was ordered, proven the highest that
	// succeeded: what failed before that one may be tried again everywhere.
	latest, proven int32
}

// nodeView is one desired node of an image.
type nodeView struct {
	node        *Node
	cache       *v1alpha1.NodeImageCache // nil until it is made
	order       *v1alpha1.AssignedImage  // of this revision; nil if there is none
	status      *v1alpha1.ImageStatus    // of this revision; nil if there is none
	unavailable bool
	leftOut     bool // the node's object has no room for the image
	state       nodeState
	// tried is the retry that the node answers, at most the highest that was
	// ordered: a report cannot raise what others are ordered.
	tried int32
	// outdated: the node pulls another revision, in a slot, until it gets new orders.
	outdated bool
	// stalls is how often the node lost its slot without enough new bytes, or more
	// where it has to go behind others.
	stalls int64
	// overdue: the node has a slot, and waited in it for as long as a pull may stall.
	overdue bool
	// slots are those of all images that the node occupies; known of candidates.
	slots int32
	// dormant: the last attempt failed terminally, and the node waits for leave to
	// make another one.
	dormant bool
	// ended: dormant, and no reason is known to give that leave.
	ended bool
}

// viewImage gathers what the nodes say of one image.
func viewImage(image *v1alpha1.CloudImage, s Snapshot, m Memory, now time.Time) imageView {
	v := imageView{image: image, revision: revisionOf(image)}
	v.digest = digestOf(image, v.revision)
	selector, err := selectorOf(image)
	if err != nil {
		v.selector = err
		return v
	}
	if selector.Empty() {
		v.nodes = make([]nodeView, 0, len(s.Nodes))
	}
	for i := range s.Nodes {
		node := &s.Nodes[i]
		if !selector.Matches(node.Labels) {
			continue
		}
		cache := s.Caches[node.Name]
		if node.Deleting {
			v.terminating++
			if n := v.viewNode(node, cache, m, now); !n.unavailable && v.unfinished(cache) {
				v.leaving = append(v.leaving, n)
			}
			continue
		}
		v.matched++
		if node.HasAgent || cache != nil {
			v.nodes = append(v.nodes, v.viewNode(node, cache, m, now))
		}
	}
	return v
}

// selectorOf reads an absent selector as every node, as the API documents it.
func selectorOf(image *v1alpha1.CloudImage) (labels.Selector, error) {
	if image.Spec.NodeSelector == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(image.Spec.NodeSelector)
}

func (v *imageView) viewNode(node *Node, cache *v1alpha1.NodeImageCache, m Memory, now time.Time) nodeView {
	n := nodeView{node: node, cache: cache}
	if at, ok := m.unavailableAt(node.Name); ok {
		n.unavailable = !now.Before(at)
	}
	if cache != nil && cache.Spec.NodeUID == node.UID {
		if order := orderIn(cache, v.image.Name); order != nil && order.Revision == v.revision {
			n.order = order
		}
		if status := statusIn(cache, v.image.Name); status != nil && status.Revision == v.revision {
			n.status = status
		}
	}
	n.outdated = n.order == nil && !n.unavailable && v.unfinished(cache)
	n.state = v.stateOf(n)
	return n
}

// unfinished tells whether a node was told to pull the image, in any revision, and
// may still be at it.
func (v *imageView) unfinished(cache *v1alpha1.NodeImageCache) bool {
	if cache == nil {
		return false
	}
	order := orderIn(cache, v.image.Name)
	if order == nil || order.Action != v1alpha1.ActionPull {
		return false
	}
	status := statusIn(cache, v.image.Name)
	if status == nil || status.Revision != order.Revision || status.Retry < order.Retry {
		return true
	}
	return status.State != v1alpha1.StateReady &&
		(status.State != v1alpha1.StateFailed || classOf(status.Reason) == classRetry)
}

// settle tells the failures that end the revision on a node from those after
// which another attempt follows.
func (v *imageView) settle() {
	for i := range v.nodes {
		v.latest = max(v.latest, v.nodes[i].retry())
	}
	for i := range v.nodes {
		n := &v.nodes[i]
		if n.status == nil {
			continue
		}
		n.tried = min(n.status.Retry, v.latest)
		if n.state == nodeReady && n.order != nil {
			v.proven = max(v.proven, min(n.tried, n.order.Retry)) // what it was not ordered proves nothing
		}
	}
	for i := range v.nodes {
		n := &v.nodes[i]
		if n.status == nil || n.status.State != v1alpha1.StateFailed || classOf(n.status.Reason) != classTerminal {
			continue
		}
		n.dormant = n.tried >= n.retry()
		n.ended = n.dormant && (n.tried >= v.proven || !healable(n.status.Reason))
	}
}

// stateOf counts a node once: unavailable before failed, failed before ready,
// ready before pulling, pulling before pending.
func (v *imageView) stateOf(n nodeView) nodeState {
	switch {
	case n.unavailable:
		return nodeUnavailable
	case n.status == nil:
		return nodePending
	}
	switch n.status.State {
	case v1alpha1.StateFailed:
		return nodeFailed
	case v1alpha1.StateReady:
		if v.wanted() != "" && v.holds(&n) {
			return nodeReady
		}
		return nodePending
	case v1alpha1.StatePulling:
		return nodePulling
	default:
		return nodePending
	}
}

// holds tells whether a node's last report says that it holds the image, even if
// its agent is away since. While no digest is known, any will do.
func (v *imageView) holds(n *nodeView) bool {
	return n.claims() && (v.wanted() == "" || n.status.Digest == v.wanted())
}

// wanted is the digest that makes a node ready: until it is known, none is.
func (v *imageView) wanted() string { return cmp.Or(v.digest, v.pin) }

// claims tells whether a node reports that it holds an image, whichever that is.
func (n *nodeView) claims() bool {
	return n.status != nil && n.status.State == v1alpha1.StateReady && n.status.Digest != ""
}

// failedTerminally tells whether a node's revision ended with an error there.
func (n *nodeView) failedTerminally() bool {
	return n.state == nodeFailed && n.ended
}

// stopsOthers tells whether such an error counts against the rollout: a node
// without a turn has tried nothing.
func (n *nodeView) stopsOthers() bool {
	return n.failedTerminally() && n.granted()
}

// retry is the retry that a node was ordered to make or, without an order, says
// that it made; 0 for none.
func (n *nodeView) retry() int32 {
	if n.order == nil {
		return n.tried
	}
	return n.order.Retry
}

// retries tells whether a node was let try again, and neither succeeded nor failed
// for good since: it counts as failed like before, also while it has lost its slot.
func (v *imageView) retries(n *nodeView) bool {
	return n.order != nil && n.order.Retry > v.proven && n.state != nodeReady && n.state != nodeUnavailable && !n.dormant
}

// probes tells whether such a node's retry is under way, so that its outcome is
// awaited. That of one that waits, for room perhaps, may never come.
func (v *imageView) probes(n *nodeView) bool {
	return v.retries(n) && n.granted() && !n.waits()
}

// mayRetry tells whether a node may be the next to try again.
func (v *imageView) mayRetry(n *nodeView) bool {
	if !n.node.AgentReady {
		return false
	}
	return (v.retries(n) && !n.granted()) || (n.failedTerminally() && healable(n.status.Reason))
}

// waits tells whether a node's pull waits for the world to change.
func (n *nodeView) waits() bool {
	return n.state == nodeFailed && classOf(n.status.Reason) == classWait
}

// granted tells whether a node was given a slot for this revision.
func (n *nodeView) granted() bool {
	return n.order != nil && n.order.Action == v1alpha1.ActionPull
}
