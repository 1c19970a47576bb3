package controller

import "github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"

// bound makes every number of a report one that the API server takes. A filesystem
// may count what it likes, and numbers that an earlier report gave seed what this one
// says; one of them out of bounds would cost the node all its reports.
func bound(status *v1alpha1.NodeImageCacheStatus) {
	room := &status.Storage
	for _, bytes := range []*int64{&room.CapacityBytes, &room.AvailableBytes, &room.BlobBytes} {
		*bytes = clamp(*bytes, v1alpha1.MaxBytes)
	}
	for i := range status.Images {
		image := &status.Images[i]
		for _, bytes := range []*int64{&image.SizeBytes, &image.VirtualSizeBytes, &image.BytesCompleted, &image.BytesHashed, &image.ResumedBytes} {
			*bytes = clamp(*bytes, v1alpha1.MaxBytes)
		}
		image.AverageBytesPerSecond = clamp(image.AverageBytesPerSecond, v1alpha1.MaxBytesPerSecond)
		image.Attempts, image.Retry = clamp(image.Attempts, v1alpha1.MaxAttempts), clamp(image.Retry, v1alpha1.MaxAttempts)
	}
}

func clamp[T int32 | int64](n, most T) T { return max(0, min(n, most)) }
