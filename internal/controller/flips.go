package controller

import (
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	// firstHeldBack is how long a label waits to be set for the third time.
	firstHeldBack = time.Minute
	// mostHeldBack is the longest that a label waits to be set again.
	mostHeldBack = time.Hour
)

// flips are how often, and when last, the label of each image was taken from a Node
// because the image's selector did not match any more. A selector on a label of
// this API can undo itself: the label makes the node match, or not match, an image
// whose label makes it match, or not match, this one. Each round of that writes the
// Node and its orders. Setting such a label again waits twice as long each time, so
// that the rounds get rare; taking one away never waits, because a label that stays
// would be untrue.
type flips map[string]flip

type flip struct {
	count int
	last  time.Time
}

// pause is how long a label waits to be set again: not at all after a node was
// relabelled once, and twice as long each time after that.
func (f flip) pause() time.Duration {
	if f.count < 2 {
		return 0
	}
	pause := firstHeldBack
	for n := 2; n < f.count && pause < mostHeldBack; n++ {
		pause *= 2
	}
	return min(pause, mostHeldBack)
}

// held splits changes of a Node's labels into those that may be written now and
// when the first of the others may; zero if there are none.
func (f flips) held(changes map[string]*string, have map[string]string, now time.Time) (write map[string]*string, next time.Time) {
	write = maps.Clone(changes)
	for key, value := range changes {
		if _, there := have[key]; value == nil || there {
			continue
		}
		if at := f[key].last.Add(f[key].pause()); now.Before(at) {
			delete(write, key)
			next = earliest(next, at)
		}
	}
	return write, next
}

// after are the flips once changes are written. What did not flip for an hour longer
// than its pause is forgotten.
func (f flips) after(changes map[string]*string, unselected map[string]bool, now time.Time) flips {
	next := flips{}
	for key, flip := range f {
		if now.Sub(flip.last) < mostHeldBack+flip.pause() {
			next[key] = flip
		}
	}
	for key, value := range changes {
		if value == nil && unselected[key] {
			next[key] = flip{next[key].count + 1, now}
		}
	}
	return next
}

// unselected are the labels of the images that are there and do not select a node.
func unselected(node labels.Set, images []v1alpha1.CloudImage) map[string]bool {
	found := map[string]bool{}
	for i := range images {
		image := &images[i]
		if selector, err := selectorOf(image); err == nil && image.DeletionTimestamp.IsZero() && !selector.Matches(node) {
			found[v1alpha1.NodeLabelPrefix+image.Name] = true
		}
	}
	return found
}
