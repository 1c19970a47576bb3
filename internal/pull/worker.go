package pull

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// startInterval keeps connections from arriving at the server all at once.
const startInterval = 5 * time.Millisecond

// worker fetches leases over one connection at a time.
type worker struct {
	t    *transfer
	buf  []byte // made when it first has something to do
	slot slot

	rate      float64       // bytes per second of recent responses; 0 unknown
	firstByte time.Duration // of the last response
	failures  int           // in a row, without progress
}

func newWorker(t *transfer) *worker { return &worker{t: t} }

func (w *worker) buffer() []byte {
	if w.buf == nil {
		w.buf = make([]byte, readSize)
	}
	return w.buf
}

// begin is the first worker: it has a response already, and a connection of the budgets.
func (w *worker) begin(ctx context.Context, l *lease, r *response, body span, s slot) error {
	w.slot = s
	stop := r.endWith(ctx)
	defer stop()
	w.t.sched.ask(l, r.cancel)
	before := l.arrived.Load()
	w.t.entered()
	err := w.receive(r, l, body)
	w.t.left()
	if err == nil {
		err = w.fetch(ctx, l)
	}
	if err := w.settle(ctx, l, before, err); err != nil {
		return err
	}
	return w.work(ctx)
}

// start is every further worker.
func (w *worker) start(ctx context.Context, number int) error {
	if err := pause(ctx, time.Duration(number)*startInterval); err != nil {
		return err
	}
	return w.work(ctx)
}

// work does what the scheduler finds for it until the object is complete.
func (w *worker) work(ctx context.Context) error {
	for {
		task, err := w.t.sched.next(ctx, w.asker())
		if err != nil || task == nil {
			return err
		}
		if task.double {
			err = w.double(ctx, task)
		} else {
			before := task.lease.arrived.Load()
			err = w.settle(ctx, task.lease, before, w.fetch(ctx, task.lease))
		}
		if err != nil {
			return err
		}
	}
}

func (w *worker) asker() asker {
	return asker{
		rate: w.rate, firstByte: w.firstByte, workers: w.t.run.job.Connections,
		worth: max(w.t.run.store.patience, stealRoundTrips*w.firstByte),
		admit: func() (ok bool) {
			w.slot, ok = w.t.run.store.budget.try(w.t.run, w.t.source.origin())
			return ok
		},
		dismiss: w.slot.release,
	}
}

// fetch asks for a lease until nothing of it is left. What has arrived is not
// asked for again.
func (w *worker) fetch(ctx context.Context, l *lease) (err error) {
	for err == nil && w.t.sched.open(l) {
		err = w.request(ctx, l)
	}
	return err
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
	w.slot.release()
	if hopeless || ends(err) {
		return err // the lease is for nobody else: another request would be in vain
	}
	w.t.sched.release(l) // from here on it is somebody else's
	if progress || err == nil {
		w.failures = 0
	}
	return w.recover(ctx, err)
}

// ends reports whether an error ends all workers, since no other attempt of one of
// them can mend it.
func ends(err error) bool {
	return err != nil && !errors.Is(err, errTaken) && !errors.Is(err, errSlow) && !retryable(err)
}

// recover waits out a failure that another attempt may mend, or returns it.
func (w *worker) recover(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if errors.Is(err, errTaken) || errors.Is(err, errSlow) {
		return nil
	}
	if ends(err) || !w.t.budget.spend(w.t.landed.Load()) {
		return err
	}
	if crowded(err) {
		w.t.governor.refused(time.Now())
	}
	w.failures++
	w.t.run.retried("a range is asked for again", err)
	return w.t.sched.pause(ctx, w.t.run.delay(w.failures, err))
}

// request asks once for what is left of a lease and takes what comes.
func (w *worker) request(ctx context.Context, l *lease) error {
	// The response does not end with ctx by itself: if it turns out to be the
	// whole object, it outlives this worker.
	own, cancel := context.WithCancelCause(w.t.attempt)
	stop := context.AfterFunc(ctx, func() { cancel(ctx.Err()) })
	defer stop()
	asked := w.t.sched.ask(l, cancel)
	if asked.len() <= 0 {
		cancel(nil)
		return nil
	}
	w.t.entered()
	defer w.t.left()
	r, err := w.t.source.again(own, asked, w.t.precondition())
	if err != nil {
		cancel(nil)
		return err
	}
	body, err := w.t.judge(r.reply, asked)
	if err == nil {
		defer cancel(nil)
		return w.receive(r, l, body)
	}
	if e, ok := errors.AsType[*Error](err); ok && e.ignoredRange && w.t.ignored.Add(1) > 1 && stop() {
		return w.t.offerStream(r)
	}
	defer cancel(nil)
	r.drain()
	return err
}

// precondition is what a later request demands of the server. Under an expected
// digest that is nothing: copies of the object that differ only in their
// validators are as good as one.
func (t *transfer) precondition() validator {
	if t.run.job.digest != "" {
		return validator{}
	}
	return t.object.validator
}

// judge is judgeLater, for a URL that a redirect may have led to: where a plain
// 400 says that a signature is no longer good, it is a refusal.
func (t *transfer) judge(r reply, asked span) (span, error) {
	body, err := judgeLater(r, asked, t.object, t.run.terms())
	if at, _ := t.source.current(); err != nil && at.redirected && r.status == http.StatusBadRequest {
		err = failWith(Forbidden, err, "the URL that the server redirects to is refused")
	}
	return body, err
}

// measure takes what a response carried into the worker's idea of its rate.
func (w *worker) measure(bytes int64, took, firstByte time.Duration) {
	w.firstByte = firstByte
	if bytes < progressBytes || took <= 0 {
		return
	}
	rate := float64(bytes) / took.Seconds()
	if w.rate == 0 {
		w.rate = rate
		return
	}
	w.rate = (w.rate + rate) / 2
}
