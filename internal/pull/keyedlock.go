package pull

import (
	"context"
	"sync"
)

// keyedLock is a set of locks by name: two pulls of one object never run at once.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// tryLock takes the key if it is free, and returns what unlocks it, or nil.
func (k *keyedLock) tryLock(key string) (unlock func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, busy := k.held[key]; busy {
		return nil
	}
	return k.take(key)
}

// take marks a free key as held. The caller holds mu.
func (k *keyedLock) take(key string) (unlock func()) {
	if k.held == nil {
		k.held = map[string]chan struct{}{}
	}
	mine := make(chan struct{})
	k.held[key] = mine
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.held, key)
		close(mine)
	}
}

// lock waits for the key, or for the end of ctx, and returns what unlocks it.
func (k *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		k.mu.Lock()
		released, busy := k.held[key]
		if !busy {
			unlock := k.take(key)
			k.mu.Unlock()
			return unlock, nil
		}
		k.mu.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
