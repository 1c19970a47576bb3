package pull

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"time"
)

// startInterval keeps connections from arriving at the server all at once.
const startInterval = 5 * time.Millisecond

// worker fetches leases over one connection at a time.
type worker struct {
	t   *transfer
	buf []byte

	rate      float64       // bytes per second of recent responses; 0 unknown
	firstByte time.Duration // of the last response
}

func newWorker(t *transfer) *worker { return &worker{t: t, buf: make([]byte, readSize)} }

// begin is the first worker: it has a response already.
func (w *worker) begin(ctx context.Context, l *lease, r *response, body span) error {
	err := w.take(r, l, body)
	if err := w.fetch(ctx, l, err); err != nil {
		return w.giveUp(l, err)
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

// work fetches leases until the object is complete.
func (w *worker) work(ctx context.Context) error {
	workers := w.t.run.job.Connections
	for {
		l, err := w.t.sched.next(ctx, func(left int64) int64 {
			return leaseSize(w.rate, w.firstByte, left, workers)
		})
		if l == nil || err != nil {
			return err
		}
		if err := w.fetch(ctx, l, nil); err != nil {
			return w.giveUp(l, err)
		}
	}
}

// giveUp decides what the end of a worker means. While others carry on, a server
// that refuses or drops one connection only wants fewer of them.
func (w *worker) giveUp(l *lease, err error) error {
	e, ok := errors.AsType[*Error](err)
	last := w.t.workers.Add(-1) == 0
	if last || !ok || e.contradiction || !retryable(err) {
		return err
	}
	w.t.run.log("a connection is given up", err)
	w.t.sched.giveBack(l)
	return nil
}

// fetch asks for a lease until it is complete. err is how its first response
// ended, if there was one. What has arrived is not asked for again.
func (w *worker) fetch(ctx context.Context, l *lease, err error) error {
	for attempt := 0; ; {
		before := l.next
		if err == nil && l.next < l.end {
			err = w.request(ctx, l)
		}
		if err == nil {
			if l.next == l.end {
				return nil
			}
			attempt = 0
			continue
		}
		if l.next-before >= progressBytes {
			attempt = 0
		}
		if attempt++; !retryable(err) || attempt >= attemptsFor(err) {
			return err
		}
		w.t.run.retried("a range is asked for again", err)
		if err := pause(ctx, w.t.run.delay(attempt, err)); err != nil {
			return err
		}
		err = nil
	}
}

// attemptsFor returns how often to try in the face of err. A server that ignores
// ranges is asked once more. One that answers them wrongly is asked twice: it may
// be one bad proxy of several, but each answer costs up to a lease.
func attemptsFor(err error) int {
	e, ok := errors.AsType[*Error](err)
	switch {
	case ok && e.ignoredRange:
		return 2
	case ok && e.contradiction:
		return 3
	default:
		return maxAttempts
	}
}

// request asks once for what is left of a lease and takes what comes.
func (w *worker) request(ctx context.Context, l *lease) error {
	asked := span{l.next, l.end}
	w.t.entered()
	defer w.t.left()
	r, err := w.t.source.again(ctx, asked, w.t.object.validator)
	if err != nil {
		return err
	}
	body, err := judgeLater(r.reply, asked, w.t.object, w.t.run.terms())
	if err != nil {
		r.drain()
		return w.t.expired(err)
	}
	return w.receive(r, l, body)
}

// take takes the response to the first request.
func (w *worker) take(r *response, l *lease, body span) error {
	w.t.entered()
	defer w.t.left()
	return w.receive(r, l, body)
}

// expired recognises a URL that a redirect led to and that is refused in the
// middle of a pull: such URLs are signed for a time. The original may lead on.
func (t *transfer) expired(err error) error {
	if !t.source.final.redirected {
		return err
	}
	switch reasonOf(err) {
	case Forbidden, NotFound, InvalidSource:
		return failWith(SourceChanged, err, "the URL that the server redirected to is refused by now")
	default:
		return err
	}
}

// receive writes the body of a range to the file, and then makes sure that it
// ends where it should.
func (w *worker) receive(r *response, l *lease, body span) error {
	defer r.close()
	began := time.Now()
	err := w.copyRange(r, l, body.end)
	if e, ok := errors.AsType[*Error](err); ok && e.contradiction {
		l.rollback()
		return err
	}
	// Cut off or complete, the bytes that came are the range's.
	if err := w.release(l); err != nil {
		return err
	}
	w.measure(body.len()-max(0, body.end-l.next), time.Since(began), r.firstByte)
	return err
}

func (w *worker) copyRange(r *response, l *lease, end int64) error {
	hold := r.reply.length < 0 // an undeclared length shows only at the end
	for l.next < end {
		unitEnd := min((l.next/unitSize+1)*unitSize, end)
		n, err := readFull(r, w.buf[:min(int64(len(w.buf)), unitEnd-l.next)])
		if err := w.write(l, w.buf[:n], hold); err != nil {
			return err
		}
		if err == io.EOF && l.next < end {
			return contradict("the body of a range ends at byte %d instead of %d", l.next, end)
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	if n, _ := r.Read(w.buf[:1]); n > 0 {
		return contradict("the body of a range goes on after byte %d", end)
	}
	return nil
}

// write puts bytes at the lease's position, and commits or holds the unit that
// they complete.
func (w *worker) write(l *lease, p []byte, hold bool) error {
	if len(p) == 0 {
		return nil
	}
	if _, err := w.t.work.file.WriteAt(p, l.next); err != nil {
		return storageError(err, "write %d bytes at %d", len(p), l.next)
	}
	l.crc = crc32.Update(l.crc, castagnoli, p)
	l.next += int64(len(p))
	if l.next%unitSize != 0 && l.next != w.t.object.total {
		return nil
	}
	unit := (l.next - 1) / unitSize
	done := heldUnit{unit: int(unit), size: l.next - unit*unitSize, crc: l.crc}
	l.crc = 0
	if hold {
		l.held = append(l.held, done)
		return nil
	}
	return w.commit(done)
}

func (w *worker) commit(u heldUnit) error {
	if err := w.t.sched.commit(u); err != nil {
		return failWith(StorageError, err, "progress is inconsistent")
	}
	w.t.flush.wrote(u)
	return nil
}

// release commits the units that were held until their response ended.
func (w *worker) release(l *lease) error {
	for _, u := range l.held {
		if err := w.commit(u); err != nil {
			return err
		}
	}
	l.held = l.held[:0]
	return nil
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

// stream writes the one response that holds the whole object.
func (w *worker) stream(ctx context.Context, r *response) error {
	defer r.close()
	w.t.entered()
	defer w.t.left()
	l := &lease{end: w.t.object.total}
	if l.end >= 0 {
		return w.copyRange(r, l, l.end)
	}
	limit := w.t.run.job.MaxSize
	for {
		n, err := readFull(r, w.buf)
		if l.next+int64(n) > limit {
			return tooLarge(l.next+int64(n), limit)
		}
		if err := w.t.work.reserve(min(limit, roundUp(l.next+int64(n), growStep))); err != nil {
			return err
		}
		if err := w.write(l, w.buf[:n], false); err != nil {
			return err
		}
		if err == io.EOF {
			return w.finish(l)
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// finish ends a stream of unknown size: what came is the object.
func (w *worker) finish(l *lease) error {
	if err := w.t.work.file.Truncate(l.next); err != nil {
		return storageError(err, "cut the data file to %d bytes", l.next)
	}
	w.t.sched.finish(l.next) // before the last unit, which is shorter than the others
	rest := l.next % unitSize
	if rest == 0 {
		return nil
	}
	return w.commit(heldUnit{unit: int(l.next / unitSize), size: rest, crc: l.crc})
}

func roundUp(n, step int64) int64 { return (n + step - 1) / step * step }
