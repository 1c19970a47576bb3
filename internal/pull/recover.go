package pull

import (
	"context"
	"errors"
	"time"
)

// admit takes what another request needs: leave to ask, and a connection of the
// budgets. It is called under the scheduler's lock.
func (w *worker) admit() (ok bool) {
	ok, w.alone = w.t.outage.admits(time.Now(), w.t.landed.Load())
	if !ok {
		return false
	}
	if w.slot, ok = w.t.run.store.budget.try(w.t.run, w.t.source.origin()); !ok {
		w.dismiss()
	}
	return ok
}

// dismiss gives back what admit took.
func (w *worker) dismiss() {
	w.slot.release()
	if w.alone {
		w.t.outage.ended()
	}
	w.alone = false
}

// settle gives up a lease and its connection, and decides what the error that
// ended it means: nil goes on with other work.
func (w *worker) settle(ctx context.Context, l *lease, before int64, err error) error {
	progress := l.arrived.Load()-before >= progressBytes
	hopeless := false
	if e, ok := errors.AsType[*Error](err); ok && e.contradiction && !e.ignoredRange {
		l.contradictions++
		hopeless = l.contradictions >= maxContradictions
	}
	if progress {
		w.failures = 0
	}
	wait, final := w.weigh(ctx, err, progress)
	if hopeless {
		final = err
	}
	if final == nil {
		w.t.sched.release(l) // from here on it is somebody else's
	} // else it is for nobody: another request would be in vain
	w.slot.release()
	return w.sitOut(ctx, wait, final)
}

// weigh returns how long to wait after a failure that another attempt may mend, or
// the error itself. It comes before others get what the request had, so that they
// know. progress says that the request brought something before it failed.
func (w *worker) weigh(ctx context.Context, err error, progress bool) (wait time.Duration, final error) {
	if ctx.Err() != nil {
		return 0, err
	}
	if err == nil || errors.Is(err, errTaken) || errors.Is(err, errSlow) {
		w.succeed()
		return 0, nil
	}
	_, refused := errors.AsType[*refusalError](err)
	if !refused && !retryable(err) {
		return 0, err
	}
	if !progress {
		w.t.source.doubt(w.resolved)
	}
	w.failures++
	wait, again := w.t.outage.failed(failure{
		sent: w.sent, now: time.Now(), kept: w.t.landed.Load(), attempt: w.failures, wish: wishOf(err),
		refused: refused, alone: w.alone || w.t.workers == 1,
	})
	w.alone = false
	if !again {
		return 0, err
	}
	if refused || crowded(err) {
		w.t.governor.refused(time.Now())
	}
	w.t.run.retried("a range is asked for again", err)
	return wait, nil
}

// sitOut waits as weigh says, unless that is final.
func (w *worker) sitOut(ctx context.Context, wait time.Duration, final error) error {
	if final != nil || wait <= 0 {
		return final
	}
	return w.t.sched.pause(ctx, wait)
}

// succeed takes note that the last request brought what it was to bring.
func (w *worker) succeed() {
	w.failures = 0
	if w.alone {
		w.t.outage.served()
	}
	w.alone = false
}
