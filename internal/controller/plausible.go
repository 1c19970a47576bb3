package controller

import "github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"

// A node may report anything of itself, and the API server of an older CRD takes
// any number. These bound what the manager reads; no honest report reaches them.
const (
	// mostBytes is the largest size that is believed, 1 EiB: two of them still add up.
	mostBytes = 1 << 60
	// mostRate is the highest rate that is believed, 128 GiB/s: above 800 Gbit/s
	// Ethernet (IEEE 802.3df), and low enough for a sum over all nodes.
	mostRate = 1 << 37
)

// plausible is a node's report of an image without what cannot be true: numbers
// below zero or beyond all measure, and reasons that nobody documented. Reports
// are shared with the informer's cache, so one that has to change is copied.
func plausible(reported *v1alpha1.ImageStatus) *v1alpha1.ImageStatus {
	if isPlausible(reported) {
		return reported
	}
	s := *reported
	for _, bytes := range []*int64{&s.SizeBytes, &s.VirtualSizeBytes, &s.BytesCompleted, &s.BytesHashed, &s.ResumedBytes} {
		*bytes = clamp(*bytes, mostBytes)
	}
	s.AverageBytesPerSecond = clamp(s.AverageBytesPerSecond, mostRate)
	s.Attempts, s.Retry = clamp(s.Attempts, v1alpha1.MaxAttempts), clamp(s.Retry, v1alpha1.MaxAttempts)
	if !documented(&s) {
		s.Reason = v1alpha1.ReasonUnknown
	}
	return &s
}

// isPlausible tells whether a report can be read as it is. A pass asks it for every
// image of every node.
func isPlausible(s *v1alpha1.ImageStatus) bool {
	for _, bytes := range [...]int64{s.SizeBytes, s.VirtualSizeBytes, s.BytesCompleted, s.BytesHashed, s.ResumedBytes} {
		if bytes != clamp(bytes, mostBytes) {
			return false
		}
	}
	return s.AverageBytesPerSecond == clamp(s.AverageBytesPerSecond, mostRate) && s.Attempts == clamp(s.Attempts, v1alpha1.MaxAttempts) && s.Retry == clamp(s.Retry, v1alpha1.MaxAttempts) && documented(s)
}

// documented tells whether a report gives a reason that a person can look up, or
// needs none.
func documented(s *v1alpha1.ImageStatus) bool {
	if s.Reason == "" {
		return s.State != v1alpha1.StateFailed
	}
	return adviceForPull(s.Reason) != ""
}
