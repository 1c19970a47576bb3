package controller

import (
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// failureEventEvery is how often an event may tell of one node's failure of one image.
	failureEventEvery = time.Minute
	// failureEventBurst is how many events may tell of failures of one image at once, as
	// many as its status names, and then in each failureEventEvery.
	failureEventBurst = maxFailures
)

// failureEvents bounds the events that tell of failures: each is a write, and a
// node decides what its report says, and how often. What no event tells is in the
// image's status. The zero value has told nothing.
type failureEvents struct {
	mu     sync.Mutex
	told   map[failureOf]time.Time
	images map[types.UID]*rate.Limiter
}

type failureOf struct {
	image types.UID
	node  string
}

// tell tells whether an event may tell of a node's failure now, and counts it.
func (f *failureEvents) tell(image types.UID, node string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.told, func(_ failureOf, at time.Time) bool { return now.Sub(at) >= failureEventEvery })
	maps.DeleteFunc(f.images, func(_ types.UID, l *rate.Limiter) bool { return l.TokensAt(now) >= failureEventBurst })
	if f.told == nil {
		f.told, f.images = map[failureOf]time.Time{}, map[types.UID]*rate.Limiter{}
	}
	of := failureOf{image, node}
	if _, lately := f.told[of]; lately {
		return false
	}
	limit := f.images[image]
	if limit == nil {
		limit = rate.NewLimiter(rate.Every(failureEventEvery/failureEventBurst), failureEventBurst)
		f.images[image] = limit
	}
	if !limit.AllowN(now, 1) {
		return false
	}
	f.told[of] = now
	return true
}
