package serve

import (
	"slices"
	"testing"
)

// TestRecentForgetsTheUnused: what is used stays, whatever comes.
func TestRecentForgetsTheUnused(t *testing.T) {
	t.Parallel()
	r := newRecent[int, string](3)
	for key := range 100 {
		r.put(key, "first")
		r.put(key, "last")
		if value, found := r.get(0); !found || value != "last" {
			t.Fatalf("after %d others the one in use is %q, found: %t", key, value, found)
		}
		if len(r.entries) > 3 || r.order.Len() != len(r.entries) {
			t.Fatalf("%d entries, %d in order", len(r.entries), r.order.Len())
		}
	}
	r.remove(98)
	r.remove(5)
	var left []int
	for key := range r.entries {
		left = append(left, key)
	}
	slices.Sort(left)
	if !slices.Equal(left, []int{0, 99}) {
		t.Errorf("left are %v, want the one in use and the last", left)
	}
}
