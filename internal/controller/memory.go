package controller

import (
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	// unavailableAfter is how long a node may be without a ready agent before it
	// counts as unavailable: longer than an agent's rolling update takes.
	unavailableAfter = 60 * time.Second
	// stalledAfter is how long a granted node keeps its slot without keepsSlot more bytes.
	stalledAfter = 10 * time.Minute
	// firstStalledAfter is the same for the one node that finds the digest, with half
	// the bytes: all others wait for it.
	firstStalledAfter = 5 * time.Minute
	// keepsSlot is how many bytes a node has to get in stalledAfter, 1 MiB: less than
	// that holds others up for days. It is less where the pull's own limit is.
	keepsSlot = 1 << 20
	// youngFor bounds how long an image that waits for its finalizer holds removals up.
	youngFor = time.Minute
)

// Memory is what the planner has seen happen and no object records: since when a
// node is without a ready agent, since when a pull has no new byte, since when an
// image waits for its finalizer and an object for its Node. It starts empty with the process, which only
// makes the planner more patient.
type Memory struct {
	notReady map[string]time.Time
	young    map[string]time.Time // images by name
	orphans  map[types.UID]time.Time
	progress map[pullKey]progress
	// lost are the nodes that held a revision, and do not now.
	lost map[revisionKey][]string
	// caches are those of the last snapshot, to tell a repair from a first pull.
	caches map[string]*v1alpha1.NodeImageCache
	// tallies are what the last plan counted.
	tallies map[revisionKey]tally
}

type pullKey struct{ node, image string }

// progress is how many bytes a pull of a revision had when it last had enough new
// ones to keep its slot, and since when.
type progress struct {
	revision string
	retry    int32
	bytes    int64
	since    time.Time
	repair   bool // the node was Ready before
}

// Observe is the memory after a look at a snapshot. Nodes and pulls that are gone
// are forgotten.
func (m Memory) Observe(s Snapshot, now time.Time) Memory {
	next := Memory{
		notReady: map[string]time.Time{}, young: m.observeYoung(s.Images, now), progress: map[pullKey]progress{}, orphans: m.observeOrphans(s, now),
		lost: map[revisionKey][]string{}, caches: maps.Clone(s.Caches), tallies: m.tallies,
	}
	for _, node := range s.Nodes {
		if !node.AgentReady {
			next.notReady[node.Name] = m.notReadySince(node, now)
		}
		cache := s.Caches[node.Name]
		if cache == nil {
			continue
		}
		for i := range cache.Spec.Images {
			order := &cache.Spec.Images[i]
			if order.Action == v1alpha1.ActionRemove {
				continue
			}
			status := statusIn(cache, order.Name)
			if status != nil && status.Revision == order.Revision && status.State == v1alpha1.StateReady {
				continue // nothing is pulled
			}
			key := pullKey{node.Name, order.Name}
			next.note(key, order, m.progressOf(key, order, status, now))
		}
	}
	return next
}

// note remembers the progress of an order that is not carried out.
func (m Memory) note(key pullKey, order *v1alpha1.AssignedImage, seen progress) {
	if seen.repair || order.Action == v1alpha1.ActionPull {
		m.progress[key] = seen
	}
	if seen.repair {
		of := revisionKey{order.Name, order.Revision}
		m.lost[of] = append(m.lost[of], key.node)
	}
}

func (m Memory) observeYoung(images []*v1alpha1.CloudImage, now time.Time) map[string]time.Time {
	young := map[string]time.Time{}
	for _, image := range images {
		if image.DeletionTimestamp.IsZero() && !controllerutil.ContainsFinalizer(image, v1alpha1.Finalizer) {
			young[image.Name] = m.youngSince(image.Name, now)
		}
	}
	return young
}

func (m Memory) youngSince(image string, now time.Time) time.Time {
	if since, ok := m.young[image]; ok {
		return since
	}
	return now
}

// youngUntil is how long an image without a finalizer holds removals up.
func (m Memory) youngUntil(image string, now time.Time) time.Time {
	return m.youngSince(image, now).Add(youngFor)
}

func (m Memory) notReadySince(node Node, now time.Time) time.Time {
	if since, ok := m.notReady[node.Name]; ok {
		return since
	}
	// A Pod tells the time by the clock of its node: only what this process has not
	// seen happen is believed.
	if m.notReady == nil && !node.NotReadySince.IsZero() && node.NotReadySince.Before(now) {
		return node.NotReadySince
	}
	return now
}

func (m Memory) progressOf(key pullKey, order *v1alpha1.AssignedImage, status *v1alpha1.ImageStatus, now time.Time) progress {
	seen := progress{revision: order.Revision, retry: order.Retry, since: now}
	if status != nil && status.Revision == order.Revision {
		seen.bytes = status.BytesCompleted + status.BytesHashed // a resume reads for a while before it fetches
	}
	last, ok := m.progress[key]
	if !ok || last.revision != seen.revision {
		seen.repair = m.wasReady(key, order.Revision)
		return seen
	}
	if seen.bytes < last.bytes+enough(order) && last.retry == seen.retry {
		return last
	}
	seen.repair = last.repair
	return seen
}

// patience is how long a pull may go without enough new bytes: shorter while no
// digest is known.
func patience(digest string) time.Duration {
	if digest == "" {
		return firstStalledAfter
	}
	return stalledAfter
}

// enough is how many new bytes a pull needs within its patience to keep its slot,
// at least 1: half of what its own limit lets through, but no more than keepsSlot.
func enough(order *v1alpha1.AssignedImage) int64 {
	bytes := int64(keepsSlot)
	if limit := order.Download.MaxBytesPerSecond; limit != nil {
		bytes = min(bytes, min(limit.Value(), keepsSlot)*int64(stalledAfter/time.Second)/2)
	}
	return max(1, bytes*int64(patience(order.Digest))/int64(stalledAfter))
}

// wasReady tells whether a node held a revision at the last look.
func (m Memory) wasReady(key pullKey, revision string) bool {
	cache := m.caches[key.node]
	if cache == nil {
		return false
	}
	status := statusIn(cache, key.image)
	return status != nil && status.Revision == revision && status.State == v1alpha1.StateReady
}

// repairs tells whether a granted pull replaces bytes that the node held and lost.
func (m Memory) repairs(node, image string) bool {
	return m.progress[pullKey{node, image}].repair
}

// unavailableAt is when a node becomes unavailable; false while its agent is ready.
func (m Memory) unavailableAt(node string) (time.Time, bool) {
	since, ok := m.notReady[node]
	return since.Add(unavailableAfter), ok
}

// progressSince is when a granted pull had its last new byte; false for a pull
// that was not observed as granted.
func (m Memory) progressSince(node, image string) (time.Time, bool) {
	seen, ok := m.progress[pullKey{node, image}]
	return seen.since, ok
}
