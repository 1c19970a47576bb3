package controller

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// prunedFor is how long a write that changed nothing is remembered: the CRD may be
// upgraded later.
const prunedFor = time.Hour

// pruned remembers the statuses whose write changed nothing. A CRD that was not
// upgraded with the manager drops the fields that it does not know: such a status
// never reads as it was written, and each pass would write it again. The zero value
// remembers nothing.
type pruned struct {
	mu      sync.Mutex
	byImage map[types.UID]prunedStatus
}

type prunedStatus struct {
	version string // the object's resourceVersion, before and after the write
	status  v1alpha1.CloudImageStatus
	at      time.Time
}

// is tells whether a status was written to an image as it is now, in vain.
func (p *pruned) is(image *v1alpha1.CloudImage, status *v1alpha1.CloudImageStatus, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, found := p.byImage[image.UID]
	return found && last.version == image.ResourceVersion && now.Sub(last.at) < prunedFor && equality.Semantic.DeepEqual(&last.status, status)
}

// wrote compares an image with what a write of its status made of it.
func (p *pruned) wrote(before, after *v1alpha1.CloudImage, status *v1alpha1.CloudImageStatus, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if before.ResourceVersion != after.ResourceVersion {
		delete(p.byImage, before.UID)
		return
	}
	if p.byImage == nil {
		p.byImage = map[types.UID]prunedStatus{}
	}
	p.byImage[before.UID] = prunedStatus{before.ResourceVersion, *status, now}
}

// keep forgets the images that are gone.
func (p *pruned) keep(images []*v1alpha1.CloudImage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.byImage) == 0 {
		return
	}
	kept := make(map[types.UID]prunedStatus, len(p.byImage))
	for _, image := range images {
		if last, found := p.byImage[image.UID]; found {
			kept[image.UID] = last
		}
	}
	p.byImage = kept
}
