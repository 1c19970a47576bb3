package pull

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// castagnoli is CRC-32C, RFC 3720 §12.1, which processors compute by themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// transfer is one attempt to bring the object into one work file, in ranges or
// as one stream. A new attempt is a new transfer and a new file.
type transfer struct {
	run    *run
	source *source
	object object
	work   *workFile
	sched  *scheduler
	flush  flusher

	resumable bool // the journal may vouch for what is committed

	attempt  context.Context //nolint:containedctx // a response may outlive the workers, not the attempt
	governor *governor
	budget   retryBudget
	ignored  atomic.Int32             // ranges that were answered with 200
	instead  atomic.Pointer[response] // the 200 that takes the place of ranges
	landed   atomic.Int64             // bytes written to the file and not found wrong
	hashing  atomic.Int64             // nanoseconds that the hasher was busy

	active atomic.Int32 // that carry bytes now
	peak   atomic.Int32 // most of them at once
}

// fetch brings the object over and returns its SHA-256 in hex. Every
// goroutine has ended when it returns, so that no write comes late.
func (t *transfer) fetch(ctx context.Context, o *opened) (sum string, err error) {
	t.attempt = ctx
	group, ctx := errgroup.WithContext(ctx)
	t.flush.start(t)
	group.Go(func() error { return t.flush.run(ctx) })
	group.Go(func() (err error) {
		defer t.flush.finish()
		sum, err = t.hash(ctx)
		return err
	})
	group.Go(func() error { return t.download(ctx, o) })
	err = group.Wait()
	return sum, err
}

// download writes the object to the file.
func (t *transfer) download(ctx context.Context, o *opened) error {
	if o.how != openRanges {
		defer o.slot.release()
		stop := o.response.endWith(ctx)
		defer stop()
		if o.how == openStream {
			return newWorker(t).stream(ctx, o.response)
		}
		t.sched.adopt(o.left.journal)
		return newWorker(t).rest(ctx, o.response)
	}
	err := t.ranges(ctx, o)
	// From here on no worker writes any more.
	if r := t.instead.Load(); r != nil {
		if errors.Is(err, errStream) {
			return t.followStream(ctx, r)
		}
		r.close()
	}
	return err
}

// ranges has workers fetch the object, over as many connections as turn out to help.
func (t *transfer) ranges(ctx context.Context, o *opened) error {
	group, ctx := errgroup.WithContext(ctx)
	count := t.workersFor(t.object.total)
	t.governor = newGovernor(count, time.Now())
	t.sched.tick(t.governor.limit, time.Now())
	// The lease is what was asked for, of which the answer may hold less: leases
	// begin and end where units do.
	var first *lease
	if o.left != nil {
		first = t.sched.resume(o.left.journal, o.asked)
	} else {
		first = t.sched.take(min(probeSize, t.object.total))
	}
	ended := make(chan struct{})
	var supervisor sync.WaitGroup
	supervisor.Go(func() { t.supervise(ended) })
	group.Go(func() error { return newWorker(t).begin(ctx, first, o.response, o.body, o.slot) })
	for i := 1; i < count; i++ {
		group.Go(func() error { return newWorker(t).start(ctx, i) })
	}
	err := group.Wait()
	close(ended)
	supervisor.Wait()
	return err
}

// superviseInterval is how often the connections of a pull are looked at.
const superviseInterval = 20 * time.Millisecond

// supervise adapts the number of connections and replaces slow ones.
func (t *transfer) supervise(ended <-chan struct{}) {
	ticker := time.NewTicker(superviseInterval)
	defer ticker.Stop()
	var rest coolDown
	for {
		select {
		case <-ended:
			return
		case now := <-ticker.C:
			t.sched.tick(t.governor.observe(now, t.sample()), now)
			if rest.over(now) && t.sched.replaceSlow(now, t.run.store.suspicion) {
				rest.begin(now)
			}
		}
	}
}

// sample looks at the pull.
func (t *transfer) sample() sample {
	s := t.sched.sample()
	s.received = t.source.received.Load()
	if busy := time.Duration(t.hashing.Load()); busy > 0 {
		s.hashRate = float64(s.hashed) / busy.Seconds()
	}
	return s
}

// workersFor returns how many connections an object of total bytes can keep busy.
func (t *transfer) workersFor(total int64) int {
	leases := (total + leaseMin - 1) / leaseMin
	return int(min(leases, int64(t.run.job.Connections)))
}

// entered counts a connection that begins to carry bytes, left one that ends.
func (t *transfer) entered() {
	now := t.active.Add(1)
	for {
		peak := t.peak.Load()
		if now <= peak || t.peak.CompareAndSwap(peak, now) {
			return
		}
	}
}

func (t *transfer) left() { t.active.Add(-1) }

// hash follows the frontier: it reads the file itself back while the rest is
// still downloading, so that what is verified is what the disk was given. The
// checksum of every unit is compared with that of the bytes as they arrived, and
// shows a hole, a misplaced or a torn write at once, digest or not.
func (t *transfer) hash(ctx context.Context) (string, error) {
	var h hash.Cloner = sha256.New().(hash.Cloner) //nolint:errcheck // it is one, by its documentation
	buf := make([]byte, readSize)
	for at := int64(0); ; {
		frontier, complete, err := t.sched.whole(ctx, at)
		if err != nil {
			return "", err
		}
		began := time.Now()
		for at < frontier {
			if err := ctx.Err(); err != nil {
				return "", err
			}
			unit := span{at, min(at+unitSize, frontier)}
			next, err := t.hashUnit(h, buf, unit)
			if errors.Is(err, errUnitAgain) {
				complete = false
				break
			}
			if err != nil {
				return "", err
			}
			h, at = next, unit.end
			t.sched.setHashed(at)
			t.flush.hashedTo(at)
			t.hashing.Add(int64(time.Since(began)))
			began = time.Now()
		}
		if complete {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
	}
}

// errUnitAgain: the bytes of a unit are not those that an earlier pull wrote.
var errUnitAgain = errors.New("the unit is fetched again")

// hashUnit returns h with the bytes of one unit added, once their CRC-32C is the
// one that they had when they arrived. h itself stays as it was.
func (t *transfer) hashUnit(h hash.Cloner, buf []byte, unit span) (hash.Cloner, error) {
	next, err := h.Clone()
	if err != nil {
		return nil, failWith(StorageError, err, "hash the data file")
	}
	crc := uint32(0)
	for at := unit.start; at < unit.end; {
		piece := buf[:min(int64(len(buf)), unit.end-at)]
		n, err := t.work.file.ReadAt(piece, at)
		if n < len(piece) {
			return nil, storageError(err, "read byte %d back", at+int64(n))
		}
		crc = crc32.Update(crc, castagnoli, piece)
		_, _ = next.Write(piece) // a hash never fails to write
		at += int64(n)
	}
	switch t.sched.verify(int(unit.start/unitSize), crc) {
	case unitAgain:
		return nil, errUnitAgain
	case unitBroken:
		return nil, fail(StorageError, "the disk returns other bytes than were written between %d and %d: check the disk", unit.start, unit.end)
	default:
		return next, nil
	}
}
