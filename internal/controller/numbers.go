package controller

import (
	"maps"
	"slices"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// description is what a node says of the bytes that it holds.
type description struct {
	size, virtualSize int64
	format            v1alpha1.ImageFormat
}

// describeBytes says what the image is: what most nodes that hold it report, so that
// others confirm it, and among equals what the status of the same revision says
// already. While no node holds it, that stays.
func describeBytes(status *v1alpha1.CloudImageStatus, v *imageView) {
	best, most := description{}, 0
	votes := descriptions(v)
	if old := &v.image.Status; old.Revision == v.revision {
		best = description{old.SizeBytes, old.VirtualSizeBytes, old.Format}
		most = votes[best]
	}
	for i := range v.nodes {
		if n := &v.nodes[i]; len(votes) > 0 && n.state == nodeReady {
			said := describedBy(n)
			if votes[said] > most {
				best, most = said, votes[said]
			}
			delete(votes, said) // counted
		}
	}
	status.SizeBytes, status.VirtualSizeBytes, status.Format = best.size, best.virtualSize, best.format
	status.Encryption = encryptionOf(v)
}

// encryptionOf is how the image is encrypted: what two nodes that hold it say, or the
// only one that does, and else what the status of the same revision says. Agents of
// before say nothing of it, so silence is no vote.
func encryptionOf(v *imageView) v1alpha1.ImageEncryption {
	votes := map[v1alpha1.ImageEncryption]int{}
	ready := 0
	for i := range v.nodes {
		if n := &v.nodes[i]; n.state == nodeReady {
			ready++
			if n.status.Encryption != "" {
				votes[n.status.Encryption]++
			}
		}
	}
	for _, said := range slices.Sorted(maps.Keys(votes)) {
		if votes[said] >= min(ready, 2) {
			return said
		}
	}
	if old := &v.image.Status; old.Revision == v.revision {
		return old.Encryption
	}
	return ""
}

// descriptions counts the nodes that hold the image by what they say of it.
func descriptions(v *imageView) map[description]int {
	votes := map[description]int{}
	var last description
	run := 0 // nodes in a row that say the same, as all do but for liars
	for i := range v.nodes {
		n := &v.nodes[i]
		if n.state != nodeReady {
			continue
		}
		if said := describedBy(n); run > 0 && said != last {
			votes[last] += run
			last, run = said, 0
		} else {
			last = said
		}
		run++
	}
	if run > 0 {
		votes[last] += run
	}
	return votes
}

func describedBy(n *nodeView) description {
	return description{n.status.SizeBytes, n.status.VirtualSizeBytes, n.status.Format}
}

// describeThroughput is over the last pulls of the nodes that are ready. A node
// that adopted its bytes pulled nothing and does not count. The median is there
// because one node that lies, or that is far faster than the others, moves the mean.
func describeThroughput(status *v1alpha1.CloudImageStatus, v *imageView) {
	rates := make([]int64, 0, len(v.nodes))
	sum := int64(0)
	for i := range v.nodes {
		n := &v.nodes[i]
		if n.state == nodeReady && n.status.AverageBytesPerSecond > 0 {
			rates = append(rates, n.status.AverageBytesPerSecond)
			sum += n.status.AverageBytesPerSecond
		}
	}
	if len(rates) == 0 {
		return
	}
	slices.Sort(rates)
	status.ThroughputBytesPerSecond = &v1alpha1.Throughput{
		Mean: sum / int64(len(rates)), Median: rates[(len(rates)-1)/2], Min: rates[0], Max: rates[len(rates)-1],
	}
	status.Throughput = formatRate(status.ThroughputBytesPerSecond.Mean)
}
