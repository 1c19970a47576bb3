package pull

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// dirtyMost is how many bytes may be written and not yet on their way to
	// stable storage for certain; whoever would write more waits.
	dirtyMost = 96 << 20
	// settleMost is how many bytes of writeback may be under way before the
	// flusher waits for the oldest: enough to keep a disk busy.
	settleMost = 32 << 20
	// dropPiece is the least that is dropped from the page cache at once, in bytes.
	dropPiece = 8 << 20
)

// flusher keeps a transfer's data moving to stable storage while it runs, so that
// the sync at its end is short, the memory of the node stays its workloads', and a
// kill costs little. One goroutine starts the writeback of what is written, waits
// for it, drops from the page cache what is hashed, and writes the journal.
type flusher struct {
	t     *transfer
	wake  chan struct{} // of capacity one: something changed
	ended chan struct{} // closed when the hasher has

	mu      sync.Mutex
	settled sync.Cond
	running bool
	fresh   []span // written since the flusher last looked
	dirty   int64  // bytes written whose writeback was not waited for
	pending int64  // bytes committed since the last checkpoint was due
	hashed  int64  // the hasher is here

	// Of the goroutine alone:
	flowing []span           // under writeback, oldest first
	rest    time.Time        // no checkpoint before
	rested  <-chan time.Time // tells that rest is over; nil while nobody waits for it
	dropped int64            // up to here the page cache was dropped
	blind   bool             // the filesystem or a sandbox has no sync_file_range
	behind  bool             // the journal says less or more than it should: it had no room, or units were taken back
}

// start makes the flusher ready, before any goroutine of the transfer runs.
func (f *flusher) start(t *transfer) {
	f.t, f.wake, f.ended = t, make(chan struct{}, 1), make(chan struct{})
	f.settled.L, f.running = &f.mu, true
}

// finish tells the flusher that the hasher has ended, and nothing more will come.
func (f *flusher) finish() { close(f.ended) }

func (f *flusher) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// wrote notes that a unit is in the file, and waits while too much of it is dirty.
func (f *flusher) wrote(u heldUnit) {
	f.mu.Lock()
	at := int64(u.unit) * unitSize
	f.fresh = append(f.fresh, span{at, at + u.size})
	f.dirty += u.size
	f.pending += u.size
	f.nudge()
	for f.dirty > dirtyMost && f.running {
		f.settled.Wait()
	}
	f.mu.Unlock()
	f.t.work.store.step("unit written")
}

// hashedTo notes how far the hasher is.
func (f *flusher) hashedTo(at int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hashed = at
	f.nudge()
}

// run is the goroutine. Any error of it means that the disk cannot be relied on.
func (f *flusher) run(ctx context.Context) error {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.running = false
		f.settled.Broadcast()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.ended:
			return nil
		case <-f.wake:
		case <-f.rested:
		}
		err := f.flow()
		if err == nil {
			err = f.checkpointInTurn()
		}
		if err == nil {
			err = f.drop()
		}
		if err != nil {
			f.t.work.poisoned = true
			return err
		}
	}
}

// flow starts the writeback of what is new, and waits for the oldest of it when
// much is under way.
func (f *flusher) flow() error {
	f.mu.Lock()
	fresh := f.fresh
	f.fresh = nil
	f.mu.Unlock()
	under := int64(0)
	for _, piece := range f.flowing {
		under += piece.len()
	}
	for _, piece := range joined(fresh) {
		if err := f.sync(piece, unix.SYNC_FILE_RANGE_WRITE); err != nil {
			return err
		}
		f.flowing = append(f.flowing, piece)
		under += piece.len()
	}
	for under > settleMost {
		piece := f.flowing[0]
		if err := f.sync(piece, settleRange); err != nil {
			return err
		}
		f.flowing = f.flowing[1:]
		under -= piece.len()
		f.settle(piece.len())
	}
	return nil
}

// settle notes that bytes are clean.
func (f *flusher) settle(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty -= n
	f.settled.Broadcast()
}

// drop takes what is hashed and clean out of the page cache.
func (f *flusher) drop() error {
	f.mu.Lock()
	hashed := f.hashed
	f.mu.Unlock()
	piece := span{f.dropped, hashed}
	if piece.len() < dropPiece {
		return nil
	}
	f.dropped = hashed
	if err := f.sync(piece, settleRange); err != nil { // dirty pages would stay
		return err
	}
	// A hint: what is not dropped costs memory and nothing else.
	_ = unix.Fadvise(int(f.t.work.file.Fd()), piece.start, piece.len(), unix.FADV_DONTNEED)
	return nil
}

// settleRange is what makes sync_file_range wait until a range is written out.
const settleRange = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER

// sync is sync_file_range. It takes errors of writeback off the file, which no
// later fsync reports again: they end the pull here.
func (f *flusher) sync(piece span, flags int) error {
	for !f.blind {
		err := unix.SyncFileRange(int(f.t.work.file.Fd()), piece.start, piece.len(), flags)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM), errors.Is(err, unix.ESPIPE):
			f.blind = true // checkpoints and the last sync do it all
		case !errors.Is(err, unix.EINTR):
			return storageError(err, "write %d bytes at %d out", piece.len(), piece.start)
		}
	}
	return nil
}

// joined sorts spans and joins those that touch.
func joined(spans []span) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	out := spans[:0]
	for _, s := range spans {
		if last := len(out) - 1; last >= 0 && out[last].end == s.start {
			out[last].end = s.end
		} else {
			out = append(out, s)
		}
	}
	return out
}

// last makes what is committed survive the end of the pull, once every other
// goroutine has ended. It reports whether there is anything to go on with.
func (f *flusher) last() bool {
	due := int64(1)
	if f.behind {
		due = 0
	}
	if err := f.checkpoint(due); err != nil {
		f.t.run.log("the unfinished pull cannot be kept", err)
	}
	return !f.t.work.poisoned && f.t.work.generation > 0
}

// checkpointInTurn writes the journal if enough was committed since the last
// time, and not for more than an eighth of the flusher's time: it waits for the
// disk, and meanwhile nothing is written out. On a fast network a kill then costs
// more bytes, and not more time.
func (f *flusher) checkpointInTurn() error {
	began := time.Now()
	if began.Before(f.rest) {
		if f.rested == nil {
			f.rested = time.NewTimer(f.rest.Sub(began)).C // when nothing may come that wakes it
		}
		return nil
	}
	f.rested = nil
	store := f.t.work.store
	err := f.checkpoint(store.checkpointInterval(f.t.object.total))
	ended := time.Now()
	f.rest = ended.Add(time.Duration(store.checkpointRest) * ended.Sub(began))
	return err
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
	saved, err := f.t.work.checkpoint(f.t.sched.journal(f.t.object.validator))
	f.behind = !saved
	return err
}
