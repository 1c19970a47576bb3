package controller

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// Images carries out the orders of one node: one goroutine an image, which pulls,
// adopts or removes it and tries again after failures. Neither Sync nor Statuses
// waits for a network, or for the bytes of an image.
type Images struct {
	ImagesOptions
	store   Store
	pulls   chan struct{} // a token for each pull that fetches, or asks since a moment
	adopts  chan struct{} // a token for each adoption: hashing is the disk's and a core's work
	changed chan struct{} // holds at most one token: something changed since it was taken

	ctx     context.Context //nolint:containedctx // the life of the workers, which outlive the calls that start them
	stop    context.CancelFunc
	workers sync.WaitGroup

	mu      sync.Mutex
	synced  bool
	storage error         // why the store was not usable at the last look
	space   Room          // at the last look
	woken   chan struct{} // closed when the store may have room, or work, again
	entries map[string]*entry
	// tails are the ends of the last worker of each name, also of a forgotten one:
	// two workers never touch one link at the same time.
	tails map[string]chan struct{}
}

// entry is one image of the node.
type entry struct {
	order  v1alpha1.AssignedImage
	status v1alpha1.ImageStatus
	cancel context.CancelFunc
	lost   string // why bytes that were ready have to be fetched again
	access string // the version of what the source names, before the last pull
	// adopting: its worker hashes bytes that lie on the disk.
	adopting bool
}

// ImagesOptions are what Images needs besides the store.
type ImagesOptions struct {
	// Concurrent is how many pulls may run at the same time, from 1.
	Concurrent int
	// Now tells the time, Random a number in [0, 1).
	Now     func() time.Time
	Random  func() float64
	Metrics *AgentMetrics
	Log     logr.Logger
	// AccessVersion changes whenever the Secret or ConfigMap that a source names
	// does; nil if nobody looks.
	AccessVersion func(ctx context.Context, source *v1alpha1.HTTPSource) (string, error)
}

// NewImages makes the images of a node. What they start ends with the context;
// Stop ends it too, and waits.
func NewImages(ctx context.Context, store Store, options ImagesOptions) *Images {
	ctx, stop := context.WithCancel(ctx)
	im := &Images{
		ImagesOptions: options, store: store,
		pulls: make(chan struct{}, options.Concurrent), adopts: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		ctx: ctx, stop: stop, entries: map[string]*entry{}, tails: map[string]chan struct{}{}, woken: make(chan struct{}),
	}
	im.workers.Go(im.guard)
	return im
}

// Stop cancels all pulls and waits for them.
func (im *Images) Stop() {
	im.stop()
	im.workers.Wait()
}

// Changed has a token whenever an image's status changed since the last one was taken.
func (im *Images) Changed() <-chan struct{} { return im.changed }

// Sync takes the orders of the node. The reported statuses seed what is known
// after a restart; they count in the first call only.
func (im *Images) Sync(orders []v1alpha1.AssignedImage, reported []v1alpha1.ImageStatus) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if !im.synced {
		im.synced = true
		im.dropUnlisted(orders)
	} else {
		reported = nil
	}
	listed := map[string]bool{}
	for _, order := range orders {
		listed[order.Name] = true
		if e := im.entries[order.Name]; e != nil && (sameWork(e.order, order) || e.adopting && sameBytes(e.order, order)) {
			e.order = order // its limits count from the next attempt on, and its action once the bytes are hashed
			continue
		}
		im.start(order, statusNamed(reported, order.Name))
	}
	for name, e := range im.entries {
		if !listed[name] {
			im.forget(name, e)
		}
	}
	im.keep()
}

// keep tells the store what the orders name, so that nothing of it is evicted
// before it is linked. The caller holds mu.
func (im *Images) keep() {
	var digests []string
	for _, e := range im.entries {
		if e.order.Action != v1alpha1.ActionRemove {
			digests = append(digests, e.order.Digest, e.status.Digest)
		}
	}
	im.store.Keep(slices.DeleteFunc(digests, func(digest string) bool { return digest == "" }))
}

// sameWork tells whether a new order asks for what the last one did. Editing a
// limit must not restart a pull that runs.
func sameWork(a, b v1alpha1.AssignedImage) bool {
	return a.Revision == b.Revision && a.Action == b.Action && a.Digest == b.Digest && a.Retry == b.Retry
}

// sameBytes tells whether two orders want the same bytes, to be pulled or not.
func sameBytes(a, b v1alpha1.AssignedImage) bool {
	return a.Revision == b.Revision && a.Digest == b.Digest && a.Action != v1alpha1.ActionRemove && b.Action != v1alpha1.ActionRemove
}

// dropUnlisted removes, after a restart, the links of images that went from the
// list meanwhile. Their bytes stay: an absent entry is no order to delete.
func (im *Images) dropUnlisted(orders []v1alpha1.AssignedImage) {
	names, err := im.store.Linked()
	if err != nil {
		return // The store's condition tells; the links are harmless.
	}
	for _, name := range names {
		if !slices.ContainsFunc(orders, func(o v1alpha1.AssignedImage) bool { return o.Name == name }) {
			_ = im.store.Drop(name) // as above
		}
	}
}

// start begins a new order of an image; its worker waits for that of the last one.
func (im *Images) start(order v1alpha1.AssignedImage, reported *v1alpha1.ImageStatus) {
	e := im.entries[order.Name]
	if e == nil {
		e = &entry{}
		if reported != nil {
			e.status = *reported
		}
		im.entries[order.Name] = e
	} else {
		e.cancel()
	}
	if e.status.Revision != order.Revision || e.status.State == "" {
		e.status, e.lost = v1alpha1.ImageStatus{Name: order.Name, Revision: order.Revision, State: v1alpha1.StatePending}, ""
		im.signal()
	}
	e.order = order
	im.spawn(order.Name, e, func(ctx context.Context) { im.carryOut(ctx, order) })
}

// forget drops an image that is no longer listed: its link goes, its bytes stay.
func (im *Images) forget(name string, e *entry) {
	e.cancel()
	delete(im.entries, name)
	im.spawn(name, e, func(context.Context) { _ = im.store.Drop(name) })
	im.signal()
}

// spawn runs work as the worker of an image, after the one before has ended.
func (im *Images) spawn(name string, e *entry, work func(context.Context)) {
	ctx, cancel := context.WithCancel(im.ctx)
	e.adopting = false
	before, done := im.tails[name], make(chan struct{})
	e.cancel, im.tails[name] = cancel, done
	im.workers.Go(func() {
		defer im.finish(name, done)
		defer cancel()
		if before != nil {
			<-before
		}
		work(ctx)
	})
}

func (im *Images) finish(name string, done chan struct{}) {
	close(done)
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.tails[name] == done {
		delete(im.tails, name)
	}
}

// Statuses are what is known of the listed images, in ascending order of names.
func (im *Images) Statuses() []v1alpha1.ImageStatus {
	im.mu.Lock()
	defer im.mu.Unlock()
	statuses := make([]v1alpha1.ImageStatus, 0, len(im.entries))
	for _, e := range im.entries {
		if e.status.Name != "" { // a removed image has none
			statuses = append(statuses, *e.status.DeepCopy())
		}
	}
	slices.SortFunc(statuses, func(a, b v1alpha1.ImageStatus) int { return cmp.Compare(a.Name, b.Name) })
	return statuses
}

// update changes the status of an image, unless the order that the caller works
// on has been replaced.
func (im *Images) update(ctx context.Context, name string, change func(*v1alpha1.ImageStatus)) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if e := im.entries[name]; e != nil && ctx.Err() == nil {
		change(&e.status)
		im.signal()
	}
}

func (im *Images) signal() {
	select {
	case im.changed <- struct{}{}:
	default:
	}
}

func statusNamed(statuses []v1alpha1.ImageStatus, name string) *v1alpha1.ImageStatus {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}
