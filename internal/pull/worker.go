package pull

import (
	"context"
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

	// Of the last request.
	sent     time.Time
	resolved int  // resolution of the original URL that found the answer; 0: none did
	alone    bool // no other one is made until it has ended
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
	w.resolved = w.t.source.current().times
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
		admit: w.admit, dismiss: w.dismiss,
	}
}

// ask asks the source for a span, and takes note of when. What answers for the
// object may fail later: then by which resolution of the original URL it was found.
func (w *worker) ask(ctx context.Context, asked span) (*response, error) {
	w.sent, w.resolved = time.Now(), 0
	r, err := w.t.source.again(ctx, asked, w.t.precondition())
	if !failed(r, err) {
		w.resolved = w.t.source.current().times
	}
	return r, err
}

// fetch asks for a lease until nothing of it is left. What has arrived is not
// asked for again.
func (w *worker) fetch(ctx context.Context, l *lease) (err error) {
	for err == nil && w.t.sched.open(l) {
		err = w.request(ctx, l)
	}
	return err
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
	r, err := w.ask(own, asked)
	if err != nil {
		cancel(nil)
		return err
	}
	body, err := w.t.judge(r, asked)
	if err == nil {
		defer cancel(nil)
		return w.receive(r, l, body)
	}
	if e, ok := err.(*Error); ok && e.ignoredRange && w.t.ignored.Add(1) > 1 && stop() { //nolint:errorlint // not within a refusalError
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

// judge is judgeLater for the answer to a request that may not be the last word on
// it. Where a redirect led, a plain 400 may say that a signature is no longer good.
func (t *transfer) judge(r *response, asked span) (span, error) {
	body, err := judgeLater(r.reply, asked, t.object, t.run.terms())
	if err == nil {
		return body, nil
	}
	if r.at.redirected && r.reply.status == http.StatusBadRequest {
		err = failWith(Forbidden, err, "the URL that the server redirects to is refused")
	}
	if aboutRequest(r, t.object, t.run.job.digest != "") {
		err = &refusalError{err}
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
