package hollow

import (
	"maps"
	"sync"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// Board is where all agents of the fleet note what reaches them. It has a round of its own for each rollout.
type Board struct {
	now func() time.Time

	mu      sync.Mutex
	applied map[string]time.Time // by image, of this round
	delays  []time.Duration
	last    time.Time

	joining  map[string]time.Time // when its Pod became visible, by node; zero before
	expected int                  // images of a joining node
	joins    []time.Duration

	pulling map[string]int // by image
	most    map[string]int
}

// NewBoard makes an empty board.
func NewBoard(now func() time.Time) *Board {
	b := &Board{now: now, joining: map[string]time.Time{}, pulling: map[string]int{}}
	b.NewRound()
	return b
}

// NewRound forgets what was noted of the last rollout.
func (b *Board) NewRound() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.applied, b.delays = map[string]time.Time{}, nil
	b.most = maps.Clone(b.pulling)
}

// Applied notes that a person applies an image now.
func (b *Board) Applied(image string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.applied[image] = b.now()
}

// Joining notes that a node's Pod is about to become visible; it has joined when it sees the orders of that many images.
func (b *Board) Joining(node string, images int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.joining[node], b.expected = time.Time{}, images
}

// Visible notes that the Pod of a node that joins is visible now.
func (b *Board) Visible(node string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, joins := b.joining[node]; joins {
		b.joining[node] = b.now()
	}
}

// Round is what a round has come to.
type Round struct {
	// Delays are from applying an image to its order reaching a node's agent, one for each of both.
	Delays []time.Duration
	// Last is when the last of them was noted.
	Last time.Time
	// MostPulling is, over all images, the most nodes that pulled one at the same time.
	MostPulling int
}

// Round tells what was noted since NewRound.
func (b *Board) Round() Round {
	b.mu.Lock()
	defer b.mu.Unlock()
	round := Round{Delays: b.delays, Last: b.last}
	for _, most := range b.most {
		round.MostPulling = max(round.MostPulling, most)
	}
	return round
}

// Joins are, for each node that joined and saw all its orders, how long that took.
func (b *Board) Joins() []time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.joins
}

// sight is what one agent has seen of its orders.
type sight struct {
	generation int64
	revisions  map[string]string
}

// look notes the orders that are new to an agent.
func (b *Board) look(s *sight, object *v1alpha1.NodeImageCache) {
	if object.Generation == s.generation {
		return
	}
	s.generation = object.Generation
	var changed []string
	for i := range object.Spec.Images {
		order := &object.Spec.Images[i]
		if s.revisions[order.Name] != order.Revision {
			s.revisions[order.Name] = order.Revision
			changed = append(changed, order.Name)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if began, ok := b.joining[object.Name]; ok {
		if len(s.revisions) >= b.expected {
			now := b.now()
			if began.IsZero() { // the answer of the API server is on its way yet
				began = now
			}
			b.joins = append(b.joins, now.Sub(began))
			delete(b.joining, object.Name)
		}
		return
	}
	for _, image := range changed {
		if began, ok := b.applied[image]; ok {
			b.last = b.now()
			b.delays = append(b.delays, b.last.Sub(began))
		}
	}
}

// pullStarted counts a pull until the returned function is called.
func (b *Board) pullStarted(image string) (ended func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pulling[image]++
	b.most[image] = max(b.most[image], b.pulling[image])
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.pulling[image]--
	}
}
