package pull

import (
	"context"
	"errors"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
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
	outage   outage
	workers  int                      // that fetch ranges
	ignored  atomic.Int32             // ranges that were answered with 200
	instead  atomic.Pointer[response] // the 200 that takes the place of ranges
	landed   atomic.Int64             // bytes written to the file and not found wrong
	hashing  atomic.Int64             // nanoseconds that the hasher was busy

	firstByte atomic.Int64 // nanoseconds that the last response was waited for

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
	t.workers = t.workersFor(t.object.total)
	// The lease is what was asked for, of which the answer may hold less: leases
	// begin and end where units do.
	var first *lease
	if o.left != nil {
		first = t.sched.resume(o.left.journal, o.asked)
	} else {
		first = t.sched.take(min(probeSize, t.object.total))
	}
	// Its first sample has to know of what an earlier pull left.
	t.governor = newGovernor(t.workers, time.Now(), t.sample())
	t.sched.tick(t.governor.limit, false, time.Now())
	ended := make(chan struct{})
	var supervisor sync.WaitGroup
	supervisor.Go(func() { t.supervise(ended) })
	group.Go(func() error { return newWorker(t).begin(ctx, first, o.response, o.body, o.slot) })
	for i := 1; i < t.workers; i++ {
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
			limit, bound := t.governor.observe(now, t.sample())
			t.sched.tick(limit, bound, now)
			if rest.over(now) && t.sched.replaceSlow(now, t.run.store.suspicion) {
				rest.begin(now)
			}
		}
	}
}

// sample looks at the pull.
func (t *transfer) sample() sample {
	running, rereading := t.sched.atWork()
	return sample{
		received: t.source.received.Load(), running: running, rereading: rereading,
		hashing: time.Duration(t.hashing.Load()), processors: processorTime(),
		firstByte: time.Duration(t.firstByte.Load()),
	}
}

// processorTime returns what this process used of its processors so far; 0 is unknown.
func processorTime() time.Duration {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
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
