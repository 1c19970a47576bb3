package controller

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// defaultMaxConcurrentNodes serves an object that was stored without the default.
const defaultMaxConcurrentNodes = 10

// breakerFailures is the fewest terminal failures of a revision that stop its
// rollout, however small the limit is.
const breakerFailures = 3

// rollout is what is decided for one image in one pass.
type rollout struct {
	// pull are the nodes, by name, that are to have the action Pull.
	pull map[string]bool
	// retry are the nodes, by name, that may try again after a terminal failure,
	// and the number of that retry.
	retry map[string]int32
	// tally is what was counted, for the next pass.
	tally tally
	// broken is the reason for which no further node is granted; empty if the
	// rollout goes on.
	broken string
	// unhealable: it is the bytes themselves that stop the rollout.
	unhealable bool
	// next is when the decision may change by time alone; zero if it cannot.
	next time.Time
}

// rollOut decides which of an image's nodes may pull, and adds them to those that
// are busy.
func rollOut(v *imageView, m Memory, busy slotsByNode, now time.Time) rollout {
	r := rollout{pull: map[string]bool{}, retry: map[string]int32{}, tally: m.tallyOf(v, now)}
	r.broken, r.unhealable = brokenBy(v, r.tally.forgiven)
	if v.image.Spec.Suspend || v.selector != nil {
		r.keepFailed(v)
		return r
	}
	for i := range v.nodes {
		v.nodes[i].stalls = r.tally.stalls[v.nodes[i].node.Name]
	}
	held, waiting := r.keepSlots(v, m, now)
	if v.pin != "" {
		return r
	}
	if r.broken == "" {
		r.goOn(v, busy, held)
	}
	free := slots(v) - held
	switch {
	case free > 0:
		if r.probe(v, busy, now) {
			free--
		}
	case len(waiting) > 0 && r.nextProbe(v, now) != nil:
		// As below: it gets the slot in the next pass.
		delete(r.pull, waiting[0].node.Name)
		waiting = waiting[1:]
	}
	if r.broken != "" || (free <= 0 && len(waiting) == 0) {
		return r
	}
	for _, next := range candidates(v, busy) {
		switch {
		case next.outdated && r.pull[next.node.Name]: // it goes on
		case free > 0:
			r.grant(v, next)
			busy[next.node]++
			free--
		case len(waiting) > 0 && waiting[0].yieldsTo(next):
			// The slot is free in the next pass, once the order to hold is written:
			// handing it over at once would let both pull for a moment.
			r.yield(waiting[0], next)
			waiting = waiting[1:]
		default:
			return r
		}
	}
	return r
}

// keepFailed leaves the action Pull, under which it pulls nothing, with a node that
// failed for good: what stopped the rollout is known by it once the image is resumed.
func (r *rollout) keepFailed(v *imageView) {
	for i := range v.nodes {
		if n := &v.nodes[i]; n.granted() && n.dormant {
			r.pull[n.node.Name] = true
		}
	}
}

// goOn lets nodes that pull another revision use their slots for this one. Those
// that get no order to do so occupy them until they have the order to hold.
func (r *rollout) goOn(v *imageView, busy slotsByNode, held int) {
	room := slots(v) - held
	var outdated []*nodeView
	for _, n := range candidates(v, busy) {
		if n.outdated {
			room++
			outdated = append(outdated, n)
		}
	}
	for _, n := range outdated[:max(0, min(room, len(outdated)))] {
		r.grant(v, n)
		busy[n.node]++
	}
}

// keepSlots leaves the action Pull with the nodes that make use of it. It returns
// how many slots are occupied, and those of their holders that only wait, those
// that tried most first: they yield to a node that tried less often.
func (r *rollout) keepSlots(v *imageView, m Memory, now time.Time) (held int, waiting []*nodeView) {
	for i := range v.leaving {
		if !r.stalled(v, &v.leaving[i], m, now) {
			held++
		}
	}
	for i := range v.nodes {
		n := &v.nodes[i]
		switch {
		case !n.granted():
			if n.order != nil && n.state != nodeReady && n.state != nodeUnavailable && !n.dormant && !n.leftOut && m.repairs(n.node.Name, v.image.Name) {
				r.pull[n.node.Name] = true // it adopted its bytes under Hold, and lost them
			}
			if n.outdated {
				held++
			}
			continue
		case v.holds(n), n.dormant:
			// Pull needs no slot here: a ready node repairs itself under it, and a
			// node that failed for good does not try again. Leaving it saves a write.
			r.pull[n.node.Name] = true
			continue
		case n.state != nodeUnavailable && m.repairs(n.node.Name, v.image.Name):
			r.pull[n.node.Name] = true // what the node held is no part of the rollout
			continue
		case n.state == nodeUnavailable:
			// The slot goes to another node, in the next pass, once the order to hold is
			// written: the agent may be back before. This one is granted again in its turn.
			held++
			continue
		case !n.waits() && r.stalled(v, n, m, now):
			r.tally.stalls = r.tally.stalled(n.node.Name, 1)
			held++ // as above
			continue
		case n.waits():
			n.overdue = r.stalled(v, n, m, now)
			waiting = append(waiting, n)
		}
		r.pull[n.node.Name] = true
		held++
		if at, ok := m.unavailableAt(n.node.Name); ok {
			r.wake(at)
		}
	}
	slices.SortStableFunc(waiting, func(a, b *nodeView) int {
		switch {
		case a.overdue == b.overdue:
			return cmp.Compare(b.attempts(), a.attempts())
		case a.overdue:
			return -1
		default:
			return 1
		}
	})
	return held, waiting
}

func (r *rollout) stalled(v *imageView, n *nodeView, m Memory, now time.Time) bool {
	since, ok := m.progressSince(n.node.Name, v.image.Name)
	if !ok {
		since = now
	}
	at := since.Add(patience(v.digest))
	if now.Before(at) {
		r.wake(at)
		return false
	}
	return true
}

func (r *rollout) wake(at time.Time) {
	r.next = earliest(r.next, at)
}

// earliest is the earlier of two times, of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// slots is how many nodes may pull at once. Without a digest it is one: the first
// node's finding has to be written down before a second one starts.
func slots(v *imageView) int {
	if v.digest == "" {
		return 1
	}
	return limitOf(v)
}

// limitOf is maxConcurrentNodes as a number; a percentage is of the desired nodes,
// rounded up, at least 1.
func limitOf(v *imageView) int {
	value := v.image.Spec.Rollout.MaxConcurrentNodes
	if value == nil {
		return defaultMaxConcurrentNodes
	}
	limit, err := intstr.GetScaledValueFromIntOrPercent(value, len(v.nodes), true)
	if err != nil {
		return 1 // The API server validates it; an unreadable limit is the most careful one.
	}
	return max(1, limit)
}

// brokenBy is why no further node of the revision may be granted: nodes that do
// not agree on its digest, a failure that every node would see while none is ready,
// or too many failures besides those that a later success outweighs. The first two
// do not heal.
func brokenBy(v *imageView, forgiven int) (reason string, unhealable bool) {
	ready, terminal := 0, 0
	var content, last string
	for i := range v.nodes {
		n := &v.nodes[i]
		if n.state == nodeReady {
			ready++
		}
		if v.retries(n) {
			terminal++ // one attempt an hour lets nobody else begin
			if n.status != nil {
				last = cmp.Or(last, n.status.Reason)
			}
		}
		if !n.stopsOthers() {
			continue
		}
		terminal++
		last = n.status.Reason
		if aboutContent(n.status.Reason) {
			content = n.status.Reason
		}
	}
	switch {
	case len(v.split) > 0:
		return v1alpha1.ReasonDigestDisputed, true
	case content != "" && ready == 0:
		return content, true
	case terminal-forgiven >= max(breakerFailures, limitOf(v)):
		return cmp.Or(last, v1alpha1.ReasonUnknown), false
	default:
		return "", false
	}
}
