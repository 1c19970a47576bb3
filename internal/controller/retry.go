package controller

import (
	"maps"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	// probeEvery is how often one node of an image tries again after failures that
	// depend on the world.
	probeEvery = time.Hour
	// probeChangedEvery is the same once a Secret or ConfigMap that the source
	// names has changed since the failure.
	probeChangedEvery = time.Minute
)

type revisionKey struct{ image, revision string }

// tally is what was counted of one revision at the last look.
type tally struct {
	warmed   int // nodes that pulled it in their turn, and hold it
	forgiven int // terminal failures before the last success
	// retry is the latest retry that was ordered; since when it, or else a terminal
	// failure, is known.
	retry int32
	since time.Time
	// stalls counts, by node, how often it lost its slot without enough new bytes. It
	// is never written to: a new count is a new map.
	stalls map[string]int64
	// lost are the nodes that held it and lost it: that they hold it again proves
	// nothing about others. It is never written to, either.
	lost map[string]bool
}

// tallyOf counts a revision again. A success after failures forgives them: the
// breaker looks at those that come later.
func (m Memory) tallyOf(v *imageView, now time.Time) tally {
	key := revisionKey{v.image.Name, v.revision}
	last, known := m.tallies[key]
	seen := tally{retry: v.latest, stalls: last.stalls, lost: last.withLost(m.lost[key])}
	failed, counted := 0, 0
	for i := range v.nodes {
		n := &v.nodes[i]
		if n.stopsOthers() || v.retries(n) {
			counted++
		}
		switch {
		case n.failedTerminally(), v.retries(n):
			failed++
		case v.holds(n) && n.granted() && n.status.Attempts > 0 && !seen.lost[n.node.Name]: // not one that found the bytes on its disk
			seen.warmed++
		}
	}
	seen.forgiven = min(last.forgiven, counted)
	if known && seen.warmed > last.warmed {
		seen.forgiven = counted
	}
	switch {
	case failed == 0:
	case last.since.IsZero() || seen.retry > last.retry:
		seen.since = now
	default:
		seen.since = last.since
	}
	return seen
}

// withLost adds nodes that lost the revision.
func (t tally) withLost(nodes []string) map[string]bool {
	if len(nodes) == 0 {
		return t.lost
	}
	lost := maps.Clone(t.lost)
	if lost == nil {
		lost = map[string]bool{}
	}
	for _, node := range nodes {
		lost[node] = true
	}
	return lost
}

// stalled counts more stalls of a node.
func (t tally) stalled(node string, more int64) map[string]int64 {
	stalls := maps.Clone(t.stalls)
	if stalls == nil {
		stalls = map[string]int64{}
	}
	stalls[node] += more
	return stalls
}

// probe lets one node try again, if it is time, and tells whether it did.
func (r *rollout) probe(v *imageView, busy slotsByNode, now time.Time) bool {
	next := r.nextProbe(v, now)
	if next == nil {
		return false
	}
	r.pull[next.node.Name] = true
	r.retry[next.node.Name] = v.latest + 1
	busy[next.node]++
	return true
}

// nextProbe is the node that may try again now; nil if there is none. What the
// bytes are does not heal, so nobody tries while that stops the rollout.
func (r *rollout) nextProbe(v *imageView, now time.Time) *nodeView {
	if r.tally.since.IsZero() || r.unhealable {
		return nil
	}
	var next *nodeView
	every := probeEvery
	for i := range v.nodes {
		n := &v.nodes[i]
		if v.probes(n) {
			return nil // its outcome is awaited
		}
		if !v.mayRetry(n) {
			continue
		}
		if n.sawChange() {
			every = probeChangedEvery
		}
		if next == nil || triesBefore(n, next) {
			next = n
		}
	}
	if next == nil {
		return nil
	}
	if at := r.tally.since.Add(every); now.Before(at) {
		r.wake(at)
		return nil
	}
	return next
}

// triesBefore orders the nodes that may try again: those whose last retry was
// ordered longest ago, whatever they report, then those that know of a change, then
// by their turn.
func triesBefore(a, b *nodeView) bool {
	switch {
	case a.retry() != b.retry():
		return a.retry() < b.retry()
	case a.sawChange() != b.sawChange():
		return a.sawChange()
	default:
		return byTurn(a, b) < 0
	}
}

// sawChange tells whether a node saw credentials change after its failure.
func (n *nodeView) sawChange() bool {
	return n.status != nil && n.status.Reason == v1alpha1.ReasonCredentialsChanged
}

// grant gives a node a slot, and leave to try again where a retry that came after
// its failure succeeded elsewhere.
func (r *rollout) grant(v *imageView, n *nodeView) {
	r.pull[n.node.Name] = true
	if n.dormant {
		r.retry[n.node.Name] = v.proven
	}
}
