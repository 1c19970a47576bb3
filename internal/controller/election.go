package controller

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// side is one digest of those that nodes report for an image that gives none.
type side struct {
	digest string
	nodes  []string // that report it, by name
	turn   bool     // one of them was given a turn
}

// elect finds the digest of an image whose spec gives none: the one that most nodes
// report, if two of them agree or only one counts. In a rollout that is the first
// node. After a lost status it takes two, so that no single node decides for the
// others. If the sides are equally strong, none is taken.
func (v *imageView) elect() {
	if v.digest != "" || v.selector != nil || v.image.Spec.Suspend {
		return
	}
	sides := v.sides()
	switch {
	case len(sides) == 0:
		return
	case len(sides) > 1 && len(sides[0].nodes) == len(sides[1].nodes):
		v.split = sides
		return
	}
	v.pin = sides[0].digest
	for i := range v.nodes {
		v.nodes[i].state = v.stateOf(v.nodes[i])
	}
}

// sides are the digests that count, the one that most nodes report first. A digest
// counts if a node with a turn reports it. A node without one has nothing to report
// but after a lost status, so it counts only together with another.
func (v *imageView) sides() []side {
	found := map[string]*side{}
	for i := range v.nodes {
		n := &v.nodes[i]
		if !n.claims() {
			continue
		}
		s := found[n.status.Digest]
		if s == nil {
			s = &side{digest: n.status.Digest}
			found[s.digest] = s
		}
		s.nodes = append(s.nodes, n.node.Name)
		s.turn = s.turn || n.granted()
	}
	var sides []side
	for _, s := range found {
		if s.turn || len(s.nodes) > 1 {
			sides = append(sides, *s)
		}
	}
	slices.SortFunc(sides, func(a, b side) int {
		return cmp.Or(cmp.Compare(len(b.nodes), len(a.nodes)), cmp.Compare(a.digest, b.digest))
	})
	return sides
}

// mostOfDispute leaves room for the advice in the 1,024 bytes that an event takes.
const mostOfDispute = 800

// dispute says who holds what, as far as a message has room.
func (v *imageView) dispute() string {
	const named, listed = 2, 3
	var parts []string
	for _, s := range v.split[:min(len(v.split), listed)] {
		who := strings.Join(s.nodes[:min(len(s.nodes), named)], ", ")
		if more := len(s.nodes) - named; more > 0 {
			who += fmt.Sprintf(" and %d more", more)
		}
		parts = append(parts, who+" hold "+s.digest)
	}
	if more := len(v.split) - listed; more > 0 {
		parts = append(parts, fmt.Sprintf("others hold %d other digests", more))
	}
	text := "the nodes do not agree on a digest: " + strings.Join(parts, "; ")
	return shorten(text, mostOfDispute) + ". " + adviceFor(v1alpha1.ReasonDigestDisputed)
}
