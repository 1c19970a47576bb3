package controller

import (
	"context"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	// guardEvery is how often the disk is compared with what is reported, at most
	// half as much again.
	guardEvery = 20 * time.Second
	// roomGrown is how many bytes must have become free for those who wait for room
	// to try again before their time.
	roomGrown = 64 << 20
)

// guard looks at the store until the context ends.
func (im *Images) guard() {
	for sleep(im.ctx, guardEvery+time.Duration(im.Random()*float64(guardEvery)/2)) {
		im.look()
	}
}

// look compares the disk with what is reported: links and files may go by hand,
// filesystems become read-only and come back, others make room.
func (im *Images) look() {
	storage := im.store.Check()
	room, err := im.store.Room()
	im.mu.Lock()
	defer im.mu.Unlock()
	if (storage == nil) != (im.storage == nil) {
		im.Log.Info("the store's usability changed", "usable", storage == nil, "error", storage)
		im.signal()
	}
	if im.storage != nil && storage == nil || err == nil && grown(im.space, room) {
		im.wake()
	}
	im.storage = storage
	if err == nil {
		im.space = room
	}
	for name, e := range im.entries {
		if e.status.State == v1alpha1.StateReady && im.tails[name] == nil &&
			!im.store.Holds(name, e.status.Digest, e.status.SizeBytes) {
			im.redo(e, "the link or the file was gone from the disk; it is restored")
		}
	}
}

// grown tells whether there is more room than there was.
func grown(before, now Room) bool {
	taken := func(r Room) int64 { return r.BlobBytes + r.ReservedBytes + r.QuarantineBytes }
	return now.AvailableBytes-before.AvailableBytes >= roomGrown || taken(before)-taken(now) >= roomGrown
}

// Lost takes note that the bytes of a digest turned out wrong and are gone: no
// image of it is Ready any more, and those that may pull do.
func (im *Images) Lost(digest string, why error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	for _, e := range im.entries {
		if e.status.State != v1alpha1.StateReady || e.status.Digest != digest {
			continue
		}
		attempts := e.status.Attempts
		e.status = v1alpha1.ImageStatus{
			Name: e.order.Name, Revision: e.order.Revision, State: v1alpha1.StateFailed, Attempts: attempts,
			Reason: v1alpha1.ReasonStorageError, Message: clip("the bytes on the disk went bad and are fetched again: " + why.Error()),
		}
		im.signal()
		im.redo(e, e.status.Message)
	}
}

// redo carries the order of an image out once more. The caller holds mu.
func (im *Images) redo(e *entry, why string) {
	im.Log.Info("an image is restored", "cloudImage", e.order.Name, "why", why)
	e.lost = why
	e.cancel()
	order := e.order
	im.spawn(order.Name, e, func(ctx context.Context) { im.carryOut(ctx, order) })
}

// whyLost is why an image that was Ready is fetched again; empty if it is not.
func (im *Images) whyLost(name string) string {
	im.mu.Lock()
	defer im.mu.Unlock()
	if e := im.entries[name]; e != nil {
		return e.lost
	}
	return ""
}

// wake ends the rest of those whom the disk made wait. The caller holds mu.
func (im *Images) wake() {
	close(im.woken)
	im.woken = make(chan struct{})
}

// rest waits before the next try, and tells whether there is to be one. A failure
// of the disk, or of its room, is tried again as soon as that may have changed.
func (im *Images) rest(ctx context.Context, pause time.Duration, reason string) bool {
	var woken <-chan struct{} // nil: never
	if reason == v1alpha1.ReasonInsufficientSpace || reason == v1alpha1.ReasonStorageError {
		im.mu.Lock()
		woken = im.woken
		im.mu.Unlock()
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-woken:
		return true
	case <-ctx.Done():
		return false
	}
}
