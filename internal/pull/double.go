package pull

import (
	"context"
	"hash/crc32"
	"time"
)

// double fetches the unit in flight of another's lease a second time, and gives up
// what that took before it waits out a failure.
func (w *worker) double(ctx context.Context, task *task) error {
	wait, err := w.fetchAgain(ctx, task)
	w.t.sched.undouble(task)
	w.slot.release()
	return w.sitOut(ctx, wait, err)
}

// fetchAgain fetches a double's unit into memory. It is written only once it is
// complete and this worker is its owner: no two ever write to the same bytes, and
// what comes too late is discarded.
func (w *worker) fetchAgain(ctx context.Context, task *task) (wait time.Duration, err error) {
	p, from, err := w.fetchUnit(task)
	if err == nil && w.t.sched.claim(task) {
		start := int64(task.unit) * unitSize
		if _, err := w.t.work.file.WriteAt(p, start); err != nil {
			return 0, storageError(err, "write %d bytes at %d", len(p), start)
		}
		unit := heldUnit{unit: task.unit, size: task.size, crc: crc32.Checksum(p, castagnoli), from: from}
		w.succeed()
		return 0, w.committed(unit, w.t.sched.commit(unit))
	}
	if err == nil || task.ctx.Err() != nil {
		w.succeed() // the unit came from elsewhere
		return 0, ctx.Err()
	}
	return w.weigh(ctx, err, false)
}

// fetchUnit returns the bytes of a double's unit, and where they come from.
func (w *worker) fetchUnit(task *task) (p []byte, from edition, err error) {
	start := int64(task.unit) * unitSize
	asked := span{start, start + task.size}
	r, err := w.ask(task.ctx, asked)
	if err != nil {
		return nil, 0, err
	}
	defer r.close()
	body, err := w.t.judge(r, asked)
	if err != nil {
		return nil, 0, err
	}
	w.t.entered()
	defer w.t.left()
	p = make([]byte, task.size)
	n, err := readFull(r, p)
	if err == nil && int64(n) < task.size || body != asked {
		err = contradict("the answer to %s ends early", asked.header())
	}
	if err == nil {
		if n, _ := r.Read(w.buffer()[:1]); n > 0 {
			err = contradict("the body of a range goes on after byte %d", asked.end)
		}
	}
	return p, editionOf(r.reply.header), err
}
