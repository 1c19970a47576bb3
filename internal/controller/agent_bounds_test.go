package controller

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestReportsStayWithinBounds: a number out of bounds would cost the node every report.
func TestReportsStayWithinBounds(t *testing.T) {
	t.Parallel()
	counts := func(bytes, rate int64, attempts int32) v1alpha1.ImageStatus {
		return v1alpha1.ImageStatus{
			Name: "a", State: v1alpha1.StatePulling, SizeBytes: bytes, VirtualSizeBytes: bytes, BytesCompleted: bytes,
			BytesHashed: bytes, ResumedBytes: bytes, AverageBytesPerSecond: rate, Attempts: attempts, Retry: attempts,
		}
	}
	for name, tt := range map[string]struct {
		bytes    int64
		attempts int32
		want     v1alpha1.ImageStatus
	}{
		"least":    {math.MinInt64, math.MinInt32, counts(0, 0, 0)},
		"negative": {-1, -1, counts(0, 0, 0)},
		"as it is": {1 << 40, 7, counts(1<<40, 1<<40, 7)},
		"most":     {math.MaxInt64, math.MaxInt32, counts(v1alpha1.MaxBytes, v1alpha1.MaxBytesPerSecond, v1alpha1.MaxAttempts)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			room := v1alpha1.StorageStatus{CapacityBytes: tt.bytes, AvailableBytes: tt.bytes, BlobBytes: tt.bytes}
			images := []v1alpha1.ImageStatus{counts(tt.bytes, tt.bytes, tt.attempts)}
			got := report(&v1alpha1.NodeImageCache{}, images, room, nil, "v", time.Unix(0, 0))
			bytes := tt.want.SizeBytes
			want := v1alpha1.StorageStatus{CapacityBytes: bytes, AvailableBytes: bytes, BlobBytes: bytes}
			if diff := cmp.Diff(want, got.Storage); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.want, got.Images[0]); diff != "" {
				t.Error(diff)
			}
		})
	}
}
