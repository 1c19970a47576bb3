package pull

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestGovernor plays links of several kinds: each gives the rate of a number of
// connections, and after ten seconds the number has to be within bounds.
func TestGovernor(t *testing.T) {
	t.Parallel()
	const mb = 1e6
	each := func(one, all float64) func(int) float64 {
		return func(n int) float64 { return min(float64(n)*one, all) }
	}
	busy := func(costs float64) func(float64) float64 {
		return func(rate float64) float64 { return min(rate*costs, 1) }
	}
	fast := busy(1 / 1500e6)
	tests := []struct {
		name        string
		most        int
		rate        func(connections int) float64 // bytes per second
		hasher, cpu func(rate float64) float64    // the part of its time that is busy
		after       time.Duration
		least, want int
	}{
		{"each connection adds", 8, each(20*mb, 1e12), fast, fast, 300 * time.Millisecond, 8, 8},
		{"up to 64", 64, each(1*mb, 1e12), fast, fast, time.Second, 64, 64},
		{"one is all", 1, each(20*mb, 1e12), fast, fast, 10 * time.Second, 1, 1},
		{"two fill the link", 8, each(100*mb, 200*mb), fast, fast, 10 * time.Second, 2, 4},
		{"the hasher is the limit", 8, each(130*mb, 1e12), busy(1 / 500e6), busy(0), 10 * time.Second, 4, 4},
		{"the hasher keeps up", 8, each(60*mb, 1e12), fast, fast, 300 * time.Millisecond, 8, 8},
		{"the processors are the limit", 8, each(150*mb, 1e12), fast, busy(0.7 / 600e6), 10 * time.Second, 4, 4},
		{"the second step is the processors' limit", 16, each(100*mb, 1e12), fast, busy(0.7 / 1600e6), 300 * time.Millisecond, 8, 8},
		{"nothing known of the node", 8, each(60*mb, 1e12), busy(0), busy(0), 300 * time.Millisecond, 8, 8},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			now := time.Unix(0, 0)
			g := newGovernor(tt.most, now, sample{})
			received, hashing, processors, limit := 0., 0., 0., g.limit
			for end := now.Add(tt.after); now.Before(end); {
				now = now.Add(superviseInterval)
				rate := tt.rate(limit)
				received += rate * superviseInterval.Seconds()
				hashing += tt.hasher(rate) * float64(superviseInterval)
				processors += tt.cpu(rate) * float64(superviseInterval) * float64(runtime.GOMAXPROCS(0))
				limit, _ = g.observe(now, sample{
					received: int64(received), running: limit,
					hashing: time.Duration(hashing), processors: time.Duration(processors),
				})
			}
			if limit < tt.least || limit > tt.want {
				t.Errorf("%d connections, want %d to %d", limit, tt.least, tt.want)
			}
		})
	}
}

// TestResumeGrowsWhileTheHasherReads: a pull that goes on has all its connections at once, though the hasher is busy with what is there.
func TestResumeGrowsWhileTheHasherReads(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	begin := sample{rereading: true}
	g := newGovernor(8, now, begin)
	for s := begin; now.Before(time.Unix(0, 0).Add(300 * time.Millisecond)); {
		now = now.Add(superviseInterval)
		s.received += int64(g.limit) * 20e6 / 50
		s.running, s.hashing = g.limit, s.hashing+superviseInterval
		g.observe(now, s)
	}
	if g.limit != 8 {
		t.Errorf("%d connections", g.limit)
	}
}

func TestGovernorHalvesAndGrowsAgain(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	g := newGovernor(8, now, sample{})
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

// TestConnectionBudgetGoesRound has more pulls than connections, each of which
// gives its own back and asks again at once.
func TestConnectionBudgetGoesRound(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]*connectionBudget{"of the node": {perNode: 1}, "of an origin": {perHost: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				served := map[string]int{}
				holder, held := "a", slot{}
				for range 30 {
					held.release()
					// The last one to hold the connection is the first to ask.
					for _, owner := range []string{holder, "a", "b", "c"} {
						if s, ok := b.try(owner, "x"); ok {
							holder, held = owner, s
							served[owner]++
						}
					}
					time.Sleep(budgetPoll)
				}
				if diff := cmp.Diff(map[string]int{"a": 10, "b": 10, "c": 10}, served); diff != "" {
					t.Error(diff)
				}
				held.release()
				time.Sleep(budgetPatience) // nobody asks any more
				if _, ok := b.try(holder, "x"); !ok {
					t.Error("pulls that have stopped asking hold up the one that asks")
				}
			})
		})
	}
}

// TestConnectionBudgetYieldsOnlyWhatCanBeUsed: a pull that waits for a crowded
// origin does not keep others from their own.
func TestConnectionBudgetYieldsOnlyWhatCanBeUsed(t *testing.T) {
	t.Parallel()
	b := connectionBudget{perNode: 2, perHost: 1}
	own, _ := b.try("c", "y")
	own.release()
	b.try("a", "x")
	if _, ok := b.try("b", "x"); ok {
		t.Fatal("two connections to one origin")
	}
	if _, ok := b.try("c", "y"); !ok {
		t.Error("a free connection to another origin is kept for whoever cannot use it")
	}
}
