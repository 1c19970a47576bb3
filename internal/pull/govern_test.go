package pull

import (
	"testing"
	"time"
)

// TestGovernor plays links of several kinds: each gives the rate of a number of
// connections, and after ten seconds the number has to be within bounds.
func TestGovernor(t *testing.T) {
	t.Parallel()
	const mb = 1e6
	each := func(one, all float64) func(int) float64 {
		return func(n int) float64 { return min(float64(n)*one, all) }
	}
	tests := []struct {
		name        string
		most        int
		rate        func(connections int) float64
		hash        float64
		after       time.Duration
		least, want int
	}{
		{"each connection adds", 8, each(20*mb, 1e12), 500 * mb, 300 * time.Millisecond, 8, 8},
		{"up to 64", 64, each(1*mb, 1e12), 500 * mb, time.Second, 64, 64},
		{"one is all", 1, each(20*mb, 1e12), 500 * mb, 10 * time.Second, 1, 1},
		{"two fill the link", 8, each(100*mb, 200*mb), 500 * mb, 10 * time.Second, 2, 4},
		{"the hasher is the limit", 8, each(900*mb, 2000*mb), 500 * mb, 10 * time.Second, 4, 4},
		{"the hasher keeps up", 8, each(60*mb, 1e12), 1500 * mb, 300 * time.Millisecond, 8, 8},
		{"hash rate unknown", 8, each(60*mb, 1e12), 0, 300 * time.Millisecond, 8, 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now := time.Unix(0, 0)
			g := newGovernor(tt.most, now)
			received, limit := 0., g.limit
			for end := now.Add(tt.after); now.Before(end); {
				now = now.Add(superviseInterval)
				received += tt.rate(limit) * superviseInterval.Seconds()
				limit = g.observe(now, sample{received: int64(received), running: limit, hashRate: tt.hash})
			}
			if limit < tt.least || limit > tt.want {
				t.Errorf("%d connections, want %d to %d", limit, tt.least, tt.want)
			}
		})
	}
}

func TestGovernorHalvesAndGrowsAgain(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	g := newGovernor(8, now)
	received := int64(0)
	run := func(d time.Duration) int {
		for end := now.Add(d); now.Before(end); {
			now = now.Add(superviseInterval)
			received += int64(g.limit) << 20
			g.observe(now, sample{received: received, running: g.limit})
		}
		return g.limit
	}
	if got := run(time.Second); got != 8 {
		t.Fatalf("%d connections at first", got)
	}
	g.refused(now)
	g.refused(now.Add(time.Millisecond)) // of the same moment
	if g.limit != 4 {
		t.Fatalf("%d connections after a refusal, want 4", g.limit)
	}
	if got := run(900 * time.Millisecond); got != 4 {
		t.Errorf("%d connections before the pause is over", got)
	}
	if got := run(300 * time.Millisecond); got != 5 {
		t.Errorf("%d connections after the pause, want one more", got)
	}
	g.refused(now)
	if got := run(1500 * time.Millisecond); got != 2 {
		t.Errorf("%d connections, want the second pause to be longer", got)
	}
	if got := run(time.Minute); got != 8 {
		t.Errorf("%d connections a minute later", got)
	}
	for range 10 {
		now = now.Add(time.Second)
		g.refused(now)
	}
	if g.limit != 1 {
		t.Errorf("%d connections after many refusals", g.limit)
	}
}

func TestRetryBudget(t *testing.T) {
	t.Parallel()
	var b retryBudget
	for i := range retryBudgetSize {
		if !b.spend(0) {
			t.Fatalf("retry %d is refused", i)
		}
	}
	if b.spend(progressBytes - 1) {
		t.Error("a retry beyond the budget")
	}
	for i, want := range []bool{true, true, false} {
		if b.spend(2*progressBytes) != want {
			t.Errorf("retry %d after twice progressBytes: %t", i, !want)
		}
	}
	if !b.spend(1 << 30) {
		t.Error("much progress earns none")
	}
	for range retryBudgetSize - 1 {
		b.spend(0) // fewer bytes than before earn nothing
	}
	if b.spend(0) {
		t.Error("more than the whole budget was earned")
	}
}

func TestConnectionBudgetIsShared(t *testing.T) {
	t.Parallel()
	type step struct {
		owner, host string
		want        bool
	}
	tests := []struct {
		name          string
		node, perHost int
		steps         []step
	}{
		{"no limit", 0, 0, []step{{"a", "x", true}, {"a", "x", true}, {"b", "x", true}}},
		{"of the node", 2, 0, []step{{"a", "x", true}, {"a", "y", true}, {"b", "z", false}}},
		{"of an origin", 0, 1, []step{{"a", "x", true}, {"b", "x", false}, {"b", "y", true}}},
		{"one pull may use what others leave", 3, 0, []step{{"a", "x", true}, {"a", "x", true}, {"a", "x", true}, {"a", "x", false}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := connectionBudget{perNode: tt.node, perHost: tt.perHost}
			for i, s := range tt.steps {
				if _, ok := b.try(s.owner, s.host); ok != s.want {
					t.Fatalf("step %d: %s at %s gets one: %t", i, s.owner, s.host, ok)
				}
			}
		})
	}
}

func TestConnectionBudgetIsFair(t *testing.T) {
	t.Parallel()
	b := connectionBudget{perNode: 4}
	var slots []slot
	for range 4 {
		s, _ := b.try("a", "x")
		slots = append(slots, s)
	}
	if _, ok := b.try("b", "x"); ok {
		t.Fatal("a fifth connection")
	}
	for i := range 2 {
		slots[i].release()
		slots[i].release() // a second time means nothing
		if _, ok := b.try("a", "x"); ok {
			t.Error("the pull that has more goes first")
		}
		if _, ok := b.try("b", "x"); !ok {
			t.Error("the pull that waits gets none")
		}
		b.try("b", "x") // wants another
	}
	b.forget("b")
	if _, ok := b.try("a", "x"); !ok {
		t.Error("what a pull held is lost when it has ended")
	}
}
