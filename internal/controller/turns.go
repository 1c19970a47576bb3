package controller

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"
)

// mostBehind is how far a node is put back in the order of turns at once: about as
// many attempts as one that waits makes in an hour and a half.
const mostBehind = 100

// slotsByNode counts the slots of all images that a node occupies. An agent pulls
// a few images at a time: further slots would only wait on it, while other nodes
// have nothing to do.
type slotsByNode map[*Node]int32

func (s slotsByNode) count(v *imageView) {
	for i := range v.nodes {
		if n := &v.nodes[i]; n.granted() && !v.holds(n) && n.state != nodeUnavailable && !n.dormant {
			s[n.node]++
		}
	}
}

// candidates are the nodes that may be granted a slot, in the order of their
// turn: those that tried least first, then those with the fewest slots, then
// pseudo-random, but among equals the same for every image and after every restart.
func candidates(v *imageView, busy slotsByNode) []*nodeView {
	var found []*nodeView
	for i := range v.nodes {
		n := &v.nodes[i]
		waits := !n.granted() || n.dormant
		if n.node.AgentReady && waits && n.state != nodeReady && !n.ended && !n.leftOut {
			n.slots = busy[n.node]
			found = append(found, n)
		}
	}
	slices.SortFunc(found, byTurn)
	return found
}

func byTurn(a, b *nodeView) int {
	return cmp.Or(cmp.Compare(a.attempts(), b.attempts()), cmp.Compare(a.slots, b.slots), compareTurn(a.node.Name, b.node.Name))
}

// attempts are the pulls that the node began, at least one if it failed, and the
// slots that it made no use of.
func (n *nodeView) attempts() int64 {
	switch {
	case n.status == nil:
		return n.stalls
	case n.state == nodeFailed:
		return max(1, int64(n.status.Attempts)) + n.stalls
	default:
		return int64(n.status.Attempts) + n.stalls
	}
}

func compareTurn(a, b string) int {
	if ha, hb := turn(a), turn(b); ha != hb {
		if ha < hb {
			return -1
		}
		return 1
	}
	return strings.Compare(a, b)
}

func turn(node string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(node)) // a hash never fails to write
	return h.Sum64()
}

// yield takes a node's slot back. One that had waited for long has its next turn
// after that of the node it yields to, within reason: that one may report anything.
func (r *rollout) yield(n, next *nodeView) {
	delete(r.pull, n.node.Name)
	if behind := next.attempts() - n.attempts() + 1; n.overdue && behind > 0 {
		r.tally.stalls = r.tally.stalled(n.node.Name, min(behind, mostBehind))
	}
}

// yieldsTo tells whether a node that only waits gives its slot to another one: if
// that tried less often, by what both report, or after waiting for long, whatever
// they report.
func (n *nodeView) yieldsTo(next *nodeView) bool {
	return n.overdue || n.attempts() > next.attempts()
}
