package pull

import (
	"context"
	"sync"
)

// flusher keeps a transfer's data moving to stable storage while it runs: one
// goroutine that writes the journal.
type flusher struct {
	t     *transfer
	wake  chan struct{} // of capacity one: something changed
	ended chan struct{} // closed when the hasher has

	mu      sync.Mutex
	pending int64 // bytes committed since the last checkpoint
}

// start makes the flusher ready, before any goroutine of the transfer runs.
func (f *flusher) start(t *transfer) {
	f.t, f.wake, f.ended = t, make(chan struct{}, 1), make(chan struct{})
}

// finish tells the flusher that the transfer's goroutines have nothing more for it.
func (f *flusher) finish() { close(f.ended) }

func (f *flusher) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// wrote notes that a unit is in the file.
func (f *flusher) wrote(u heldUnit) {
	f.mu.Lock()
	f.pending += u.size
	f.mu.Unlock()
	f.nudge()
	f.t.work.store.step("unit written")
}

// hashedTo notes how far the hasher is.
func (f *flusher) hashedTo(int64) {}

// run is the goroutine.
func (f *flusher) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.ended:
			return nil
		case <-f.wake:
		}
		if err := f.checkpoint(checkpointInterval(f.t.object.total)); err != nil {
			return err
		}
	}
}

// last makes what is committed survive the end of the pull, once every other
// goroutine has ended. It reports whether there is anything to go on with.
func (f *flusher) last() bool {
	if err := f.checkpoint(1); err != nil {
		f.t.run.log("the unfinished pull cannot be kept", err)
	}
	return !f.t.work.poisoned && f.t.work.generation > 0
}

// checkpoint writes the journal if due bytes were committed since the last time.
func (f *flusher) checkpoint(due int64) error {
	if f.t.work.poisoned || !f.t.resumable {
		return nil
	}
	f.mu.Lock()
	pending := f.pending
	if pending < due {
		f.mu.Unlock()
		return nil
	}
	f.pending = 0
	f.mu.Unlock()
	return f.t.work.checkpoint(f.t.sched.journal(f.t.object.validator))
}
