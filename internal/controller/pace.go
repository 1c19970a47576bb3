package controller

import (
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// statusRest is how long the status of an image rests after a write, as long as
// only its numbers change: in a rollout they do with every pass, and everybody
// who watches gets every write.
const statusRest = 2 * time.Second

// pace spaces the writes of statuses. It starts empty with the process.
type pace map[types.UID]time.Time // of the last write

// due is when a status may be written: at once, if it says something new.
func (p pace) due(image *v1alpha1.CloudImage, status *v1alpha1.CloudImageStatus, now time.Time) time.Time {
	last, written := p[image.UID]
	if !written || !equality.Semantic.DeepEqual(news(&image.Status), news(status)) {
		return now
	}
	return last.Add(statusRest)
}

// wrote notes a write, and forgets those that matter no more.
func (p pace) wrote(image *v1alpha1.CloudImage, now time.Time) {
	maps.DeleteFunc(p, func(_ types.UID, last time.Time) bool { return now.Sub(last) >= statusRest })
	p[image.UID] = now
}

// news is what a status says without how many, how fast and the texts that repeat
// these.
func news(status *v1alpha1.CloudImageStatus) *v1alpha1.CloudImageStatus {
	rest := status.DeepCopy()
	rest.Nodes = v1alpha1.NodeCounts{Failed: status.Nodes.Failed}
	rest.Throughput, rest.ThroughputBytesPerSecond = "", nil
	for i := range rest.Conditions {
		rest.Conditions[i].Message = ""
	}
	return rest
}
