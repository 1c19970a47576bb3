package pull

import (
	"errors"
	"hash/crc32"
	"io"
	"time"
)

// receive writes the body of a range to the file, and then makes sure that it
// ends where it should.
func (w *worker) receive(r *response, l *lease, body span) error {
	defer r.close()
	hold := r.reply.length < 0 // an undeclared length shows only at the end
	w.t.sched.hold(l, hold)
	r.arrived = &l.arrived
	l.answer = editionOf(r.reply.header)
	w.t.firstByte.Store(int64(r.firstByte))
	began, before := time.Now(), l.next
	err := w.copyRange(r, l, body.end, hold)
	if e, ok := errors.AsType[*Error](err); ok && e.contradiction {
		w.t.landed.Add(-w.t.sched.rollback(l))
		return err
	}
	// Cut off or complete, the bytes that came are the range's.
	if err := w.commitHeld(l); err != nil {
		return err
	}
	w.measure(l.next-before, time.Since(began), r.firstByte)
	return err
}

// copyRange writes a body that ends at a position. It stops early, without an
// error, where somebody took the rest of the lease over.
func (w *worker) copyRange(r *response, l *lease, end int64, hold bool) error {
	buf := w.buffer()
	for l.next < end {
		unitEnd := min((l.next/unitSize+1)*unitSize, end)
		want := min(int64(len(buf)), unitEnd-l.next)
		n, err := readFull(r, buf[:want])
		kept, failed := w.write(l, buf[:n], hold)
		switch {
		case failed != nil:
			return failed
		case kept < n:
			return nil
		case err == io.EOF && l.next < end:
			return contradict("the body of a range ends at byte %d instead of %d", l.next, end)
		case err != nil && err != io.EOF:
			return err
		case l.next < end && !w.t.sched.open(l):
			return nil
		}
	}
	if n, _ := r.Read(buf[:1]); n > 0 {
		return contradict("the body of a range goes on after byte %d", end)
	}
	return nil
}

// write puts bytes at the lease's position, as many as are still its own, and
// commits or holds the unit that they complete.
func (w *worker) write(l *lease, p []byte, hold bool) (kept int, err error) {
	kept = w.t.sched.admit(l, len(p))
	if kept == 0 {
		return 0, nil
	}
	p = p[:kept]
	_, err = w.t.work.file.WriteAt(p, l.next)
	if err != nil {
		err = storageError(err, "write %d bytes at %d", len(p), l.next)
		w.t.sched.wrote(l, 0)
		return 0, err
	}
	l.mark()
	l.crc = crc32.Update(l.crc, castagnoli, p)
	w.t.landed.Add(int64(kept))
	end := l.next + int64(kept)
	if end%unitSize != 0 && end != w.t.object.total {
		w.t.sched.wrote(l, kept)
		return kept, nil
	}
	unit := (end - 1) / unitSize
	done := heldUnit{unit: int(unit), size: end - unit*unitSize, crc: l.crc, from: l.from}
	l.crc = 0
	if hold {
		l.held = append(l.held, done)
		w.t.sched.wrote(l, kept)
		return kept, nil
	}
	return kept, w.committed(done, w.t.sched.wroteUnit(l, kept, done))
}

// committed hands a unit that was committed on to the flusher, which may take its
// time, or explains why it could not be.
func (w *worker) committed(u heldUnit, err error) error {
	if err != nil {
		return failWith(StorageError, err, "progress is inconsistent")
	}
	w.t.flush.wrote(u)
	return nil
}

// commitHeld commits the units that were held until their response ended.
func (w *worker) commitHeld(l *lease) error {
	for _, u := range l.held {
		if err := w.committed(u, w.t.sched.commit(u)); err != nil {
			return err
		}
	}
	l.held = l.held[:0]
	return nil
}
