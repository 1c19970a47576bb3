package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestThroughput tables the rates that nodes report, and what the image says.
func TestThroughput(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		rates []int64
		want  *v1alpha1.Throughput
	}{
		"adopted":          {[]int64{0}, nil},
		"one node":         {[]int64{7}, &v1alpha1.Throughput{Mean: 7, Median: 7, Min: 7, Max: 7}},
		"two nodes":        {[]int64{9, 5}, &v1alpha1.Throughput{Mean: 7, Median: 5, Min: 5, Max: 9}},
		"three nodes":      {[]int64{10, 2, 3}, &v1alpha1.Throughput{Mean: 5, Median: 3, Min: 2, Max: 10}},
		"one adopted":      {[]int64{10, 0, 2, 3}, &v1alpha1.Throughput{Mean: 5, Median: 3, Min: 2, Max: 10}},
		"one lies":         {[]int64{100, 1 << 62, 300}, &v1alpha1.Throughput{Mean: (400 + mostRate) / 3, Median: 300, Min: 100, Max: mostRate}},
		"another one lies": {[]int64{100, -1 << 62, 300}, &v1alpha1.Throughput{Mean: 200, Median: 100, Min: 100, Max: 300}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, len(tt.rates))
			image := w.apply("debian", nil)
			w.settle()
			for i, rate := range tt.rates {
				w.report(w.s.Nodes[i].Name, "debian", func(s *v1alpha1.ImageStatus) {
					ready(digestA)(s)
					s.AverageBytesPerSecond = rate
				})
			}
			w.settle()
			if diff := cmp.Diff(tt.want, image.Status.ThroughputBytesPerSecond); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestSizes tables the sizes that nodes report, in their order, and what the image says.
func TestSizes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before int64 // what the status says already
		sizes  []int64
		want   int64
	}{
		"nobody":                    {0, nil, 0},
		"nobody any more":           {5, nil, 5},
		"one node":                  {0, []int64{5}, 5},
		"the first one lies":        {0, []int64{1 << 59, 5, 5}, 5},
		"it lied before":            {1 << 59, []int64{1 << 59, 5, 5}, 5},
		"one of two lies":           {0, []int64{5, 1 << 59}, 5},
		"one of two lies later":     {5, []int64{1 << 59, 5}, 5},
		"all say something else":    {5, []int64{6, 6}, 6},
		"below zero":                {0, []int64{-1}, 0},
		"many say other things":     {0, []int64{1, 5, 2, 5, 3}, 5},
		"nobody says what it was":   {9, []int64{5}, 5},
		"beyond all measure, alone": {0, []int64{1 << 61}, mostBytes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, max(1, len(tt.sizes)))
			image := w.apply("debian", nil)
			image.Status.Revision, image.Status.SizeBytes, image.Status.VirtualSizeBytes = revisionOf(image), tt.before, 2*tt.before
			if tt.before > 0 {
				image.Status.Format = v1alpha1.FormatQcow2
			}
			w.settle()
			for i, size := range tt.sizes {
				w.report(w.s.Nodes[i].Name, "debian", func(s *v1alpha1.ImageStatus) {
					ready(digestA)(s)
					s.SizeBytes, s.VirtualSizeBytes = size, 2*size
				})
			}
			w.pass()
			if image.Status.SizeBytes != tt.want || image.Status.VirtualSizeBytes != min(2*tt.want, mostBytes) {
				t.Errorf("the image has %d bytes, and %d as a disk; want %d", image.Status.SizeBytes, image.Status.VirtualSizeBytes, tt.want)
			}
		})
	}
}
