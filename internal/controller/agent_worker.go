package controller

import (
	"context"
	"errors"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// carryOut does what one order says, until it is done, fails for good or is replaced.
func (im *Images) carryOut(ctx context.Context, order v1alpha1.AssignedImage) {
	if order.Action == v1alpha1.ActionRemove {
		im.remove(ctx, order)
		return
	}
	im.retry(ctx, order, func() error {
		return im.warm(ctx, order, func() error {
			im.noteAccess(ctx, order)
			return im.pull(ctx, order)
		})
	})
	im.awaitNewAccess(ctx, order)
}

// warm makes an image Ready, as far as its order allows.
func (im *Images) warm(ctx context.Context, order v1alpha1.AssignedImage, pull func() error) error {
	err := im.adopt(ctx, order)
	order = im.latest(ctx, order)
	pulls := order.Action == v1alpha1.ActionPull
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, ErrNotOnDisk) && (!pulls || classOf(reasonOf(err)) == classTerminal):
		return err
	case !pulls || im.failedForGood(order):
		return nil
	default:
		return pull()
	}
}

// failedForGood tells whether this revision ended with an error on this node, as
// it may have before a restart, and no retry was ordered since.
func (im *Images) failedForGood(order v1alpha1.AssignedImage) bool {
	status := im.statusOf(order.Name)
	return status.State == v1alpha1.StateFailed && classOf(status.Reason) == classTerminal && status.Retry >= order.Retry
}

// adopt takes bytes that lie on the disk already. The error is ErrNotOnDisk when
// there are none.
//
// What was Ready, before a restart of the agent perhaps, stays so if link and size
// are right: its bytes were verified once, and the scrub reads first what this
// process has not verified. Anything else is hashed before it counts.
func (im *Images) adopt(ctx context.Context, order v1alpha1.AssignedImage) error {
	known := im.statusOf(order.Name)
	if known.State == v1alpha1.StateReady {
		if order.Digest == "" {
			order.Digest = known.Digest // what this node found for the same revision
		}
		if order.Digest == known.Digest && im.store.Holds(order.Name, known.Digest, known.SizeBytes) {
			return nil
		}
	}
	if order.Digest == "" || !im.store.Contains(order.Digest) {
		return im.notAdopted(ctx, order, ErrNotOnDisk) // without waiting for what others hash
	}
	if !acquire(ctx, im.adopts) {
		return ctx.Err()
	}
	im.adopting(ctx, order.Name, true)
	pulled, err := im.store.Adopt(ctx, order)
	im.adopting(ctx, order.Name, false)
	<-im.adopts
	if err != nil {
		return im.notAdopted(ctx, order, err)
	}
	im.succeed(ctx, order, pulled)
	return nil
}

// notAdopted notes that the bytes are not on the disk. Why an earlier pull failed
// is still the best answer to that.
func (im *Images) notAdopted(ctx context.Context, order v1alpha1.AssignedImage, err error) error {
	lost := im.whyLost(order.Name)
	im.update(ctx, order.Name, func(s *v1alpha1.ImageStatus) {
		switch {
		case !errors.Is(err, ErrNotOnDisk):
			fail(s, err)
		case s.State != v1alpha1.StateFailed:
			forgetBytes(s)
			s.State, s.Reason, s.Message = v1alpha1.StatePending, "", lost
		}
	})
	return err
}

// pull fetches the image once, when its turn on this node comes.
func (im *Images) pull(ctx context.Context, order v1alpha1.AssignedImage) error {
	turn, ok := takeTurn(ctx, im.pulls)
	if !ok {
		return ctx.Err()
	}
	defer turn.end()
	order = im.latest(ctx, order)
	lost := im.whyLost(order.Name)
	im.update(ctx, order.Name, func(s *v1alpha1.ImageStatus) {
		forgetBytes(s)
		s.State, s.Reason, s.Message = v1alpha1.StatePulling, "", lost
		s.Attempts++
		s.Retry = order.Retry
		s.StartTime = im.stamp()
	})
	logger := im.Log.WithValues("cloudImage", order.Name, "revision", order.Revision)
	logger.Info("pull started")
	done := im.Metrics.pullStarted()
	pulled, err := im.store.Pull(ctx, order, turn, func(p Progress) { im.progress(ctx, order.Name, p) })
	done(pulled, err)
	if err != nil {
		logger.Info("pull ended without success", "reason", reasonOf(err), "message", err.Error(), "cancelled", ctx.Err() != nil)
		return err
	}
	logger.Info("pull verified", "digest", pulled.Digest, "bytes", pulled.SizeBytes, "bytesPerSecond", pulled.AverageBytesPerSecond)
	im.update(ctx, order.Name, func(s *v1alpha1.ImageStatus) {
		s.CompletionTime = im.stamp()
		s.AverageBytesPerSecond, s.ResumedBytes = pulled.AverageBytesPerSecond, pulled.ResumedBytes
	})
	im.succeed(ctx, order, pulled)
	return nil
}

// progress notes how far a pull is. It wakes nobody: the status writer looks at
// running pulls by itself from time to time.
func (im *Images) progress(ctx context.Context, name string, p Progress) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if e := im.entries[name]; e != nil && ctx.Err() == nil {
		e.status.SizeBytes = p.Total
		e.status.BytesCompleted, e.status.BytesHashed, e.status.ResumedBytes = p.Completed, p.Hashed, p.Resumed
	}
}

// adopting notes that an image's bytes are being hashed, which no order to hold
// or to pull them begins anew.
func (im *Images) adopting(ctx context.Context, name string, begins bool) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if e := im.entries[name]; e != nil && ctx.Err() == nil {
		e.adopting = begins
	}
}

// succeed makes an image Ready, and lets other images of the same digest adopt it
// that are held or failed for good.
func (im *Images) succeed(ctx context.Context, order v1alpha1.AssignedImage, pulled Pulled) {
	im.update(ctx, order.Name, func(s *v1alpha1.ImageStatus) {
		s.State, s.Reason, s.Message = v1alpha1.StateReady, "", ""
		s.Digest, s.SizeBytes, s.BytesCompleted, s.BytesHashed = pulled.Digest, pulled.SizeBytes, pulled.SizeBytes, 0
		s.Format, s.VirtualSizeBytes, s.Encryption = pulled.Format, pulled.VirtualSizeBytes, pulled.Encryption
	})
	im.mu.Lock()
	defer im.mu.Unlock()
	if e := im.entries[order.Name]; e != nil && ctx.Err() == nil {
		e.lost = ""
	}
	im.keep()
	for _, e := range im.entries {
		ended := e.status.State == v1alpha1.StateFailed && classOf(e.status.Reason) == classTerminal
		waits := e.order.Action == v1alpha1.ActionHold || e.order.Action == v1alpha1.ActionPull && ended
		if waits && e.order.Digest == pulled.Digest && e.status.State != v1alpha1.StateReady {
			waiting := e.order
			e.cancel()
			im.spawn(waiting.Name, e, func(ctx context.Context) { im.carryOut(ctx, waiting) })
		}
	}
}

// remove drops an image, and its bytes unless another listed image names them;
// then the status no longer lists it.
func (im *Images) remove(ctx context.Context, order v1alpha1.AssignedImage) {
	im.retry(ctx, order, func() error {
		if err := im.drop(order); err != nil {
			return err
		}
		im.Log.Info("image removed", "cloudImage", order.Name)
		im.mu.Lock()
		defer im.mu.Unlock()
		if ctx.Err() == nil {
			// The entry stays, without a status: it remembers that the order was
			// carried out.
			im.entries[order.Name].status = v1alpha1.ImageStatus{}
			im.signal()
		}
		im.wake()
		return nil
	})
}

func (im *Images) drop(order v1alpha1.AssignedImage) error {
	if im.named(order) {
		return im.store.Drop(order.Name)
	}
	return im.store.Purge(order)
}

// named tells whether another listed image names the digest of an order.
func (im *Images) named(order v1alpha1.AssignedImage) bool {
	im.mu.Lock()
	defer im.mu.Unlock()
	digests := map[string]bool{order.Digest: true}
	if e := im.entries[order.Name]; e != nil {
		digests[e.status.Digest] = true
	}
	delete(digests, "")
	for name, e := range im.entries {
		if name != order.Name && e.order.Action != v1alpha1.ActionRemove &&
			(digests[e.order.Digest] || digests[e.status.Digest]) {
			return true
		}
	}
	return false
}

// retry tries until it succeeds, fails for good or the order is replaced.
func (im *Images) retry(ctx context.Context, order v1alpha1.AssignedImage, try func() error) {
	for failures := int32(1); ; failures++ {
		err := try()
		if err == nil || ctx.Err() != nil {
			return
		}
		im.update(ctx, order.Name, func(s *v1alpha1.ImageStatus) { fail(s, err) })
		pause, again := backoff(classOf(reasonOf(err)), failures, retryAfterOf(err), im.Random())
		if !again {
			return
		}
		im.Metrics.retried(err)
		if !im.rest(ctx, pause, reasonOf(err)) {
			return
		}
	}
}

// latest is the order as it reads now, for a worker that no other has replaced.
func (im *Images) latest(ctx context.Context, order v1alpha1.AssignedImage) v1alpha1.AssignedImage {
	im.mu.Lock()
	defer im.mu.Unlock()
	if e := im.entries[order.Name]; e != nil && ctx.Err() == nil {
		return e.order
	}
	return order
}

func (im *Images) statusOf(name string) v1alpha1.ImageStatus {
	im.mu.Lock()
	defer im.mu.Unlock()
	if e := im.entries[name]; e != nil {
		return e.status
	}
	return v1alpha1.ImageStatus{}
}

func (im *Images) stamp() *metav1.Time {
	return &metav1.Time{Time: im.Now().Truncate(time.Second)}
}

// fail writes an error into a status.
func fail(s *v1alpha1.ImageStatus, err error) {
	forgetBytes(s)
	s.State, s.Reason, s.Message = v1alpha1.StateFailed, reasonOf(err), clip(err.Error())
}

// forgetBytes clears what is only true of an image that is Ready.
func forgetBytes(s *v1alpha1.ImageStatus) {
	s.Digest, s.SizeBytes, s.Format, s.VirtualSizeBytes, s.Encryption = "", 0, "", 0, ""
	s.BytesCompleted, s.BytesHashed, s.AverageBytesPerSecond, s.ResumedBytes, s.CompletionTime = 0, 0, 0, 0, nil
}
