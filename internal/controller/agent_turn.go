package controller

import (
	"context"
	"sync"
	"time"
)

// lendAfter is how long a pull may wait for its server's first answer before
// another pull goes on in its place.
const lendAfter = time.Second

// Turn is a pull's place among those that run at the same time on a node. While the
// server has not answered, the place is lent to others: one that swallows packets
// would keep it for as long as a stall time-out lasts.
type Turn struct {
	places chan struct{}
	timer  *time.Timer

	mu       sync.Mutex
	held     bool
	answered bool // from here on the place is not lent
}

// takeTurn waits for a place, and tells whether there was one before the context
// ended. Then end has to be called.
func takeTurn(ctx context.Context, places chan struct{}) (*Turn, bool) {
	if !acquire(ctx, places) {
		return nil, false
	}
	t := &Turn{places: places, held: true}
	t.timer = time.AfterFunc(lendAfter, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.answered {
			t.release()
		}
	})
	return t, true
}

// Answered says that the server has answered, and tells whether the pull still has
// its place; else it has to Wait for one before it fetches anything.
func (t *Turn) Answered() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answered = true
	return t.held
}

// Wait waits for a place, for a pull that lent its own.
func (t *Turn) Wait(ctx context.Context) error {
	if !acquire(ctx, t.places) {
		return ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = true
	return nil
}

// end gives the place back.
func (t *Turn) end() {
	t.timer.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answered = true
	t.release()
}

// release gives back what is held. The caller holds mu.
func (t *Turn) release() {
	if t.held {
		t.held = false
		<-t.places
	}
}

// acquire takes a token, and tells whether it could before the context ended.
func acquire(ctx context.Context, tokens chan<- struct{}) bool {
	select {
	case tokens <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
