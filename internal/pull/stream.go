package pull

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"math"
)

// errStream ends the workers of a transfer whose server has stopped to answer
// with ranges; its answer with the whole object takes their place.
var errStream = errors.New("the server sends the whole object instead of a range")

// offerStream makes a 200 to a later range the stream that brings the rest of
// the object. Only the first one is taken.
func (t *transfer) offerStream(r *response) error {
	if !t.instead.CompareAndSwap(nil, r) {
		r.close()
	}
	return errStream
}

// followStream reads the whole object once every worker has ended.
func (t *transfer) followStream(ctx context.Context, r *response) error {
	defer r.close()
	stop := r.endWith(ctx)
	defer stop()
	slot, err := t.run.store.budget.wait(ctx, t.run, t.source.origin())
	if err != nil {
		return err
	}
	defer slot.release()
	t.run.log("the rest comes in one response", errStream)
	if err = t.checkStream(r); err == nil {
		err = newWorker(t).rest(ctx, r)
	}
	if e, ok := errors.AsType[*Error](err); ok && retryable(err) {
		e.contradiction = true // its ranges are of no use: what follows is one response
	}
	return err
}

// checkStream makes sure that a 200 carries the object that the ranges were of.
// What could not be taken for an object at the start says here that it is another
// one, so that the pull begins again and judges it as such.
func (t *transfer) checkStream(r *response) error {
	o, err := judgeWhole(r.reply, 0, t.run.terms())
	switch {
	case r.reply.length >= 0 && r.reply.length != t.object.total, o.total > 0 && o.total != t.object.total:
	case o.unframed && reasonOf(err) == InvalidSource:
	case err == nil && t.run.job.digest == "" && t.object.validator.contradictedBy(r.reply.header):
	default:
		return err
	}
	return fail(SourceChanged, "the object changed while it was read: the server's whole answer is of another one")
}

// rest reads the one response that holds the whole object, a part of which is in
// the file: what is committed is compared and not written again.
func (w *worker) rest(ctx context.Context, r *response) error {
	defer r.close()
	w.t.sched.follow()
	w.t.entered()
	defer w.t.left()
	for l := (&lease{end: w.t.object.total, answer: editionOf(r.reply.header)}); l.next < l.end; {
		if err := w.streamUnit(ctx, r, l); err != nil {
			return err
		}
	}
	if n, _ := r.Read(w.buffer()[:1]); n > 0 {
		return contradict("the body of the object goes on after byte %d", w.t.object.total)
	}
	return nil
}

// streamUnit reads the next unit of a stream: writes it, or compares it when it
// is there already. The stream passes a unit that an earlier pull left only once
// the hasher has compared it with the disk: its bytes will not come again.
func (w *worker) streamUnit(ctx context.Context, r *response, l *lease) error {
	want, present, err := w.t.sched.trusted(ctx, int(l.next/unitSize))
	if err != nil {
		return err
	}
	end := min(l.next+unitSize, w.t.object.total)
	var crc uint32
	for l.next < end {
		buf := w.buffer()
		n, err := readFull(r, buf[:min(int64(len(buf)), end-l.next)])
		if present {
			crc = crc32.Update(crc, castagnoli, buf[:n])
			l.next += int64(n)
		} else if _, err := w.write(l, buf[:n], false); err != nil {
			return err
		}
		if err == io.EOF && l.next < end {
			return contradict("the body of the object ends at byte %d instead of %d", l.next, w.t.object.total)
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	if present && crc != want {
		return fail(SourceChanged, "the object changed while it was read: its whole answer differs before byte %d", end)
	}
	return nil
}

// stream writes the one response that holds the whole object.
func (w *worker) stream(ctx context.Context, r *response) error {
	defer r.close()
	w.t.entered()
	defer w.t.left()
	l := &lease{end: math.MaxInt64, answer: editionOf(r.reply.header)} // nobody else is there to share it with
	if w.t.object.total >= 0 {
		return w.copyRange(r, l, w.t.object.total, false)
	}
	buf := w.buffer()
	limit := w.t.run.job.MaxSize
	for {
		n, err := readFull(r, buf)
		if l.next+int64(n) > limit {
			return tooLarge(l.next+int64(n), limit)
		}
		if err := w.t.work.reserve(ctx, min(limit, roundUp(l.next+int64(n), growStep))); err != nil {
			return err
		}
		if _, err := w.write(l, buf[:n], false); err != nil {
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
	last := heldUnit{unit: int(l.next / unitSize), size: rest, crc: l.crc, from: l.from}
	return w.committed(last, w.t.sched.commit(last))
}

func roundUp(n, step int64) int64 { return (n + step - 1) / step * step }
