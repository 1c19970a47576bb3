package main

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// states of a row, in the order in which they are listed: what needs attention comes first.
const (
	stateFailed   = "Failed"
	stateAway     = "Unavailable" // its agent is; nobody knows what the node holds
	statePulling  = "Pulling"
	stateRemoving = "Removing"
	statePending  = "Pending" // it was told to pull, and has not begun
	stateWaiting  = "Waiting" // for a slot of the rollout
	stateReady    = "Ready"
)

func rank(state string) int {
	return slices.Index([]string{stateFailed, stateAway, statePulling, stateRemoving, statePending, stateWaiting, stateReady}, state)
}

// row is one node's part in an image.
type row struct {
	node  string
	state string
	// done and size are bytes; size is 0 while it is not known.
	done, size int64
	// rate is bytes per second: of the pull that runs since it began, or of the last one.
	rate int64
	// resumed is how many of the done bytes an earlier attempt had left.
	resumed  int64
	attempts int32
	reason   string
	message  string
	seen     bool // the agent has the order, and has not begun
	begun    bool // the pull that runs has told nothing yet: it began a moment ago, or
	silent   bool // the server has not answered it
	// others are the images that the node pulls now.
	others []string
	// halted is why no turn comes at all; empty if one does.
	halted string
}

// rowsOf are the nodes that an image was assigned to, those that need attention first.
func rowsOf(image *v1alpha1.CloudImage, caches []v1alpha1.NodeImageCache, now time.Time) []row {
	var rows []row
	for i := range caches {
		if r, ok := rowOf(image, &caches[i], now); ok {
			rows = append(rows, r)
		}
	}
	sortRows(rows)
	return rows
}

func sortRows(rows []row) {
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(rank(a.state), rank(b.state)), cmp.Compare(a.node, b.node))
	})
}

// rowOf is false when the node has nothing to do with the image.
func rowOf(image *v1alpha1.CloudImage, cache *v1alpha1.NodeImageCache, now time.Time) (row, bool) {
	order, report := find(cache, image.Name)
	r := row{node: cache.Name, size: max(0, image.Status.SizeBytes), halted: haltedBy(image)}
	switch {
	case order == nil:
		return row{}, false
	case order.Action == v1alpha1.ActionRemove:
		r.state = stateRemoving
	case report == nil || report.Revision != order.Revision || cache.Status.NodeUID != cache.Spec.NodeUID:
		r.state = unstarted(order)
	default:
		r.take(order, report, now)
		r.others = pulledBy(cache, now)
	}
	if failure := awayIn(image, cache.Name); failure != nil {
		r.leave(failure)
	}
	return r, true
}

// haltedBy is why an image gives no node a turn; empty if it does.
func haltedBy(image *v1alpha1.CloudImage) string {
	switch {
	case image.Spec.Suspend:
		return "spec.suspend is true, so nothing is pulled"
	case meta.IsStatusConditionTrue(image.Status.Conditions, v1alpha1.ConditionStalled):
		return "the rollout has stopped"
	}
	return ""
}

// pulledBy are the names of the images that a node pulls, and that others wait for.
func pulledBy(cache *v1alpha1.NodeImageCache, now time.Time) (names []string) {
	for i := range cache.Status.Images {
		if report := &cache.Status.Images[i]; pulls(report) && !silent(report, now) {
			names = append(names, report.Name)
		}
	}
	return names
}

func pulls(report *v1alpha1.ImageStatus) bool { return report.State == v1alpha1.StatePulling }

// toldWithin is how long an agent may take to report how far a pull is: 15 s, up to half of it more, and some for the API server.
const toldWithin = 30 * time.Second

// toldNothing tells of a pull that runs whether nothing was reported of it but that it began.
func toldNothing(report *v1alpha1.ImageStatus) bool {
	return report.SizeBytes == 0 && report.BytesCompleted == 0
}

// silent tells of a pull that runs whether its server has not answered for so long that a report would say so: others go on in its place.
func silent(report *v1alpha1.ImageStatus, now time.Time) bool {
	return toldNothing(report) && report.StartTime != nil && now.Sub(report.StartTime.Time) > toldWithin
}

// awayIn is what an image says of a node whose agent is away, if it names the node.
func awayIn(image *v1alpha1.CloudImage, node string) *v1alpha1.NodeFailure {
	for i := range image.Status.Failures {
		if f := &image.Status.Failures[i]; f.Node == node && f.Reason == v1alpha1.ReasonAgentUnavailable {
			return f
		}
	}
	return nil
}

// leave makes a row of a node whose agent is away: what the agent reported last is what was.
func (r *row) leave(failure *v1alpha1.NodeFailure) {
	last := r.state
	*r = row{node: r.node, state: stateAway, size: r.size, reason: failure.Reason, message: failure.Message}
	if last == stateReady {
		r.message = "it held the image; " + r.message
	}
}

// unstarted is the state of an order that the agent has not answered.
func unstarted(order *v1alpha1.AssignedImage) string {
	if order.Action == v1alpha1.ActionHold {
		return stateWaiting
	}
	return statePending
}

// take fills in what the agent reports about the order's revision. A report may say
// anything: numbers that cannot be are read as the nearest that can.
func (r *row) take(order *v1alpha1.AssignedImage, report *v1alpha1.ImageStatus, now time.Time) {
	r.size = cmp.Or(max(0, report.SizeBytes), r.size)
	r.attempts, r.reason, r.message = report.Attempts, report.Reason, report.Message
	r.resumed = r.within(report.ResumedBytes)
	switch report.State {
	case v1alpha1.StateReady:
		r.state, r.done, r.rate = stateReady, r.size, report.AverageBytesPerSecond
	case v1alpha1.StatePulling:
		r.state, r.done = statePulling, r.within(report.BytesCompleted)
		r.begun, r.silent = toldNothing(report), silent(report, now)
		if report.StartTime != nil {
			if seconds := now.Sub(report.StartTime.Time).Seconds(); seconds >= 1 {
				r.rate = int64(float64(max(0, r.done-r.resumed)) / seconds)
			}
		}
	case v1alpha1.StateFailed:
		r.state = stateFailed
	default:
		r.state, r.seen = unstarted(order), true
	}
}

// within reads a number of bytes of the image as one that can be: from 0 to the
// size, if that is known.
func (r *row) within(bytes int64) int64 {
	if r.size > 0 {
		bytes = min(bytes, r.size)
	}
	return max(0, bytes)
}

// find looks for an image in a node's orders and in its agent's report; nil is not there.
func find(cache *v1alpha1.NodeImageCache, image string) (*v1alpha1.AssignedImage, *v1alpha1.ImageStatus) {
	var order *v1alpha1.AssignedImage
	var report *v1alpha1.ImageStatus
	if i := slices.IndexFunc(cache.Spec.Images, func(a v1alpha1.AssignedImage) bool { return a.Name == image }); i >= 0 {
		order = &cache.Spec.Images[i]
	}
	if i := slices.IndexFunc(cache.Status.Images, func(s v1alpha1.ImageStatus) bool { return s.Name == image }); i >= 0 {
		report = &cache.Status.Images[i]
	}
	return order, report
}
