package pull

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// probeSize is how much the first request asks for, in bytes. Its answer
	// shows what the server can do, and is a lease's worth of the object.
	probeSize = 4 << 20
	// maxChanges is how many attempts an object that changes is given; the last
	// of them is one response, which cannot be a mixture.
	maxChanges = 3
	// maxStreams is how many times a response that cannot be continued is begun.
	maxStreams = 3
	// tick is how often progress is reported and stalls are looked for.
	tick = 200 * time.Millisecond
)

// Pull brings the object of r into the store: verified, durable, and linked when
// r names an image. report, which may be nil, is called a few times a second,
// always from the same goroutine, and a last time before Pull returns.
//
// A failure is an *Error with its reason, or wraps the error of ctx. After it the
// Result tells what the attempt cost. What is on disk is kept for the next pull of
// the object to go on with, unless the failure speaks against those bytes or the
// disk. Pulls of one digest wait for each other; the later ones find the bytes present.
func (s *Store) Pull(ctx context.Context, r Request, report func(Progress)) (Result, error) {
	began := time.Now()
	j, err := newJob(r)
	if err != nil {
		return Result{}, err
	}
	result, err := s.pull(ctx, j, report)
	result.Duration = time.Since(began)
	if err != nil {
		return result, explainPull(j, err)
	}
	if !result.AlreadyPresent {
		result.AverageBytesPerSecond = int64(float64(result.SizeBytes-result.ResumedBytes) / result.Duration.Seconds())
	}
	return result, nil
}

func (s *Store) pull(ctx context.Context, j *job, report func(Progress)) (Result, error) {
	unlock, err := s.keys.lock(ctx, workKey(j))
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if j.digest != "" {
		if result, err := s.present(ctx, j); !errors.Is(err, ErrNotPresent) {
			return result, err
		}
	}
	p := &run{store: s, job: j, source: newSource(j, s.limiter)}
	defer p.source.close()
	defer s.budget.forget(p)
	result, err := p.supervised(ctx, report)
	result.TransferredBytes = p.source.received.Load()
	result.Retries = int(p.retries.Load())
	return result, err
}

// explainPull puts the (redacted) URL in front of what went wrong.
func explainPull(j *job, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return fmt.Errorf("pull of %s: %w", j.at.String(), err)
	}
	return &Error{Kind: e.Kind, Message: "pull of " + j.at.String(), After: e.After, Err: err}
}

// run is one call of Pull: a ladder of attempts at one object.
type run struct {
	store  *Store
	job    *job
	source *source

	retries atomic.Int32
	begun   bool                     // the first request was answered with the object
	current atomic.Pointer[transfer] // nil before the first
	plain   bool                     // only answers to requests without Range are of use
	said    int64                    // size of the object by the last answer to a range that was of no use otherwise
	ended   string                   // the wrong digest of the last answer that may have been cut
	mixed   mixed
}

func (p *run) terms() terms {
	return terms{maxSize: p.job.MaxSize, digest: p.job.digest != "", only: p.mixed.only}
}

// log notes something that went wrong and is dealt with.
func (p *run) log(what string, err error) {
	p.store.log.Info("pull goes on", "what", what, "url", p.job.at.String(), "error", err)
}

// retried counts and logs a request that is made again.
func (p *run) retried(message string, err error) {
	p.retries.Add(1)
	p.log(message, err)
}

// wishOf is how long the server wished to be left alone when it failed with err.
func wishOf(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.After
	}
	return 0
}

// supervised runs the ladder with a goroutine beside it that reports progress
// and ends a pull that has stalled. There is no deadline on the pull as a whole.
func (p *run) supervised(ctx context.Context, report func(Progress)) (Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	done := make(chan struct{})
	watcher.Go(func() { p.watch(done, cancel, report) })
	result, err := p.ladder(ctx)
	if stalled, ok := errors.AsType[*Error](context.Cause(ctx)); ok && err != nil {
		err = stalled
	}
	close(done)
	watcher.Wait()
	cancel(nil)
	return result, err
}

func (p *run) watch(done <-chan struct{}, cancel context.CancelCauseFunc, report func(Progress)) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	// Half as long again: a request that replaces a silent one gets a chance.
	stall := newStallDetector(p.job.StallTimeout*3/2, p.job.MaxBytesPerSecond, time.Now())
	for {
		select {
		case <-done:
			if report != nil {
				report(p.progress())
			}
			return
		case now := <-ticker.C:
			// While nobody waits for the server, it cannot be what is slow.
			if p.source.reading.Load() == 0 {
				stall.reset(now, p.source.received.Load())
			} else if stall.stalled(now, p.source.received.Load()) {
				cancel(fail(SourceStalled, "fewer than %d bytes came within %s", stall.need, stall.window))
			}
			if report != nil {
				report(p.progress())
			}
		}
	}
}

func (p *run) progress() Progress {
	progress := Progress{TransferredBytes: p.source.received.Load(), Retries: int(p.retries.Load())}
	if t := p.current.Load(); t != nil {
		committed, hashed, total := t.sched.progress()
		progress.BytesCompleted, progress.HashedBytes, progress.TotalBytes = committed, hashed, max(total, 0)
		progress.ResumedBytes = p.mixed.resumed(t)
		progress.Connections = int(t.active.Load())
	}
	return progress
}

// ladder makes attempts until one succeeds or what went wrong is final.
func (p *run) ladder(ctx context.Context) (Result, error) {
	var past history
	for {
		result, how, err := p.attempt(ctx, past.stream)
		if err == nil || ctx.Err() != nil {
			return result, err
		}
		if !past.again(err, how) {
			return result, err
		}
		p.retried("the pull starts again", err)
		if retryable(err) && how != openRanges {
			if err := pause(ctx, p.store.delay(past.streams, wishOf(err))); err != nil {
				return Result{}, err
			}
		}
	}
}

// history is what the attempts of a pull came to so far.
type history struct {
	stream  bool // ask for the whole object in one response from now on
	changes int
	streams int
}

// again takes how an attempt failed and decides whether there is another one. A
// digest that does not match after ranges or a resume may be their fault; after
// one response it is not.
func (h *history) again(err error, how opening) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || how == openAgain {
		return false
	}
	switch {
	case e.final:
		return false
	case e.Kind == SourceChanged:
		h.changes++
		h.stream = h.stream || h.changes == maxChanges-1
		return h.changes < maxChanges
	case e.Kind == DigestMismatch:
		h.stream = true
		return how != openStream
	case e.contradiction:
		asked := h.stream
		h.stream = true
		return how != openStream || !asked
	case retryable(err) && how != openRanges:
		h.streams++
		return h.streams < maxStreams
	}
	return false
}

// attempt brings the object over once and publishes it. It goes on in the file of
// an earlier pull if there is one that the object on the server belongs to, else it
// begins a file of its own. how tells what the first request led to; openAgain,
// that it led nowhere.
func (p *run) attempt(ctx context.Context, stream bool) (result Result, how opening, err error) {
	left := p.leftover(stream)
	if left == nil {
		p.mixed.only = mixedEdition
	}
	o, err := p.open(ctx, stream, left)
	if err != nil {
		if left != nil {
			p.end(left.work, reasonOf(err) != StorageError) // no answer speaks against what is there
		}
		return Result{}, openAgain, err
	}
	work, err := p.workFor(ctx, o, left)
	if err != nil {
		o.close()
		return Result{}, o.how, err
	}
	t := &transfer{
		run: p, source: p.source, object: o.object, work: work, sched: newScheduler(o.object.total),
		outage: outage{patience: p.store.endurance, delay: p.store.delay},
	}
	t.resumable = o.how != openStream && journalable(work.key, o.object)
	p.current.Store(t)
	sum, err := t.fetch(ctx, o)
	if err == nil {
		result, err = p.publish(ctx, t, sum, o.how)
		result.Connections = int(t.peak.Load())
		result.Parallel = o.how == openRanges && o.body.len() < o.object.total && t.instead.Load() == nil
	}
	if e, ok := errors.AsType[*Error](err); ok && e.mixture {
		p.mixed.keep(t)
	}
	p.end(work, keeps(err) && t.flush.last())
	return result, o.how, err
}

// publish publishes what a transfer brought, if it is what was asked for.
func (p *run) publish(ctx context.Context, t *transfer, sum string, how opening) (Result, error) {
	_, _, size := t.sched.progress()
	if size == t.object.perhaps && (p.job.digest == "" || sum != p.job.digest) {
		return Result{}, contradict("the server answers a range of %d bytes with 200 and just as many, which may be only a part", size)
	}
	if p.job.digest != "" && sum != p.job.digest {
		if t.object.unframed && t.object.total < 0 && p.ended != sum {
			p.ended = sum // what ends alike twice was not cut
			return Result{}, fail(SourceUnavailable, "the answer, sha256:%s, may have been cut after %d bytes: its server marks the end only by closing the connection",
				sum, size)
		}
		return Result{}, p.mixed.mismatch(t, how, sum, p.job.digest)
	}
	result, err := p.store.publish(ctx, p.job, t.work, sum, size)
	if err == nil {
		result.ResumedBytes = p.mixed.resumed(t)
	}
	return result, err
}
