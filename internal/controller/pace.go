package controller

import (
	"maps"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	// statusRest is how long the status of an image rests after a write, as long as
	// only its numbers change: in a rollout they do with every pass, and everybody
	// who watches gets every write.
	statusRest = 2 * time.Second
	// newsBurst is how many changes that a report alone can cause are written without
	// such a limit: what failed and why, and numbers that go back and forth. One more
	// follows each newsEvery, so that a node whose report changes all the time makes
	// no more writes than that.
	newsBurst = 10
	newsEvery = 10 * time.Second
)

// pace spaces the writes of statuses. It starts empty with the process.
type pace map[types.UID]*paced

// paced is what was written of one image.
type paced struct {
	last  time.Time
	ready int32         // the most nodes that were said to be ready of the revision
	news  *rate.Limiter // a token for each change that a report alone can cause
}

// due is when a status may be written: at once, if it answers an edit or, within
// bounds, says something new.
func (p pace) due(image *v1alpha1.CloudImage, status *v1alpha1.CloudImageStatus, now time.Time) time.Time {
	written := p[image.UID]
	if written == nil || answers(&image.Status, status) {
		return now
	}
	rested, tokens := written.last.Add(statusRest), written.news.TokensAt(now)
	switch {
	case tokens >= 1 && !equality.Semantic.DeepEqual(news(&image.Status), news(status)):
		return now
	case tokens >= 1, status.Nodes.Ready > written.ready:
		return rested
	}
	if token := now.Add(time.Duration((1 - tokens) * float64(newsEvery))); token.After(rested) {
		return token
	}
	return rested
}

// wrote notes a write, and forgets those that matter no more.
func (p pace) wrote(image *v1alpha1.CloudImage, status *v1alpha1.CloudImageStatus, now time.Time) {
	maps.DeleteFunc(p, func(_ types.UID, w *paced) bool { return now.Sub(w.last) >= newsBurst*newsEvery })
	written := p[image.UID]
	if written == nil {
		p[image.UID] = &paced{last: now, ready: status.Nodes.Ready, news: rate.NewLimiter(rate.Every(newsEvery), newsBurst)}
		return
	}
	forward := status.Nodes.Ready > written.ready && now.Sub(written.last) >= statusRest
	switch {
	case image.Status.Revision != status.Revision:
		written.ready = status.Nodes.Ready
	case !forward && !answers(&image.Status, status):
		written.news.AllowN(now, 1)
	}
	written.last, written.ready = now, max(written.ready, status.Nodes.Ready)
}

// answers tells whether a status says what no report can make it say: that an edit
// was seen, or which digest is pinned.
func answers(before, after *v1alpha1.CloudImageStatus) bool {
	return before.ObservedGeneration != after.ObservedGeneration || before.Revision != after.Revision ||
		before.LastHandledRequestedAt != after.LastHandledRequestedAt || before.Digest != after.Digest
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
