package controller

import (
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	// assumedFor is how long a written object is believed that the informer never shows.
	assumedFor = time.Minute
	// doubtedFor is how long a write is believed whose answer never came: long enough
	// for an informer to show that it was carried out. Another node could be granted
	// the same slot otherwise.
	doubtedFor = 5 * time.Second
)

// assumed are the objects that were written and that the informer may not show
// yet. Without them, a pass over a stale cache would see a granted slot as free
// and grant it twice.
type assumed struct {
	objects map[string]assumption
}

type assumption struct {
	object *v1alpha1.NodeImageCache
	until  time.Time
}

func newAssumed() *assumed { return &assumed{objects: map[string]assumption{}} }

// remember takes an object as the API server answered to a write, or may have.
func (a *assumed) remember(object *v1alpha1.NodeImageCache, now time.Time, believed time.Duration) {
	object.ManagedFields = nil // as in the informer: they would be the larger part of it
	a.objects[object.Name] = assumption{object, now.Add(believed)}
}

func (a *assumed) forget(name string) { delete(a.objects, name) }

// overlay puts what was written over what the informer shows, and forgets what it
// has caught up with. Generations of one UID are comparable: they count the
// writes of the spec. It returns when the first belief ends; zero if there is none.
func (a *assumed) overlay(s Snapshot, now time.Time) (next time.Time) {
	for name, written := range a.objects {
		shown := s.Caches[name]
		switch {
		case now.After(written.until),
			shown != nil && shown.UID != written.object.UID,
			shown != nil && shown.Generation >= written.object.Generation:
			a.forget(name)
		default:
			s.Caches[name] = written.object
			next = earliest(next, written.until)
		}
	}
	return next
}
