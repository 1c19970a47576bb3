package pull

import (
	"context"
	"testing"
	"time"
)

func TestSplit(t *testing.T) {
	t.Parallel()
	const mib = unitSize
	tests := []struct {
		name string
		p    portion
		rate float64
		want int64
	}{
		{"the back half", portion{next: 0, end: 9 * mib}, 0, 5 * mib},
		{"above the unit in flight", portion{next: 3*mib + 5, end: 5 * mib}, 0, 4 * mib},
		{"whole units", portion{next: 5, end: 4 * mib}, 0, 2 * mib},
		{"more for the faster", portion{next: 0, end: 101 * mib, rate: 1}, 9, 11 * mib},
		{"never less than half for the slower", portion{next: 0, end: 9 * mib, rate: 9}, 1, 5 * mib},
		{"an odd end", portion{next: 0, end: 2*mib + 7}, 0, mib},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := split(tt.p, tt.rate); got != tt.want {
				t.Errorf("split = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestWhoIsHelped(t *testing.T) {
	t.Parallel()
	const mib, old = unitSize, 10 * time.Second
	parts := []portion{
		{next: 0, end: mib, rate: 1 << 20, age: old},
		{next: 10 * mib, end: 20 * mib, rate: 4 << 20, age: old},
		{next: 40 * mib, end: 50 * mib, rate: 40 << 20, age: old},
	}
	tests := []struct {
		name     string
		change   func([]portion)
		longest  int // -1: nobody
		frontier int64
		lagging  int
	}{
		{"the longest rest, not the most bytes", func([]portion) {}, 1, 10 * mib, -1},
		{"nothing may be taken of it", func(p []portion) { p[1].fixed = true }, 0, 10 * mib, -1},
		{"one unit, which is doubled", func(p []portion) { p[1].rate, p[0].doubled = 1<<30, true }, -1, 0, -1},
		{"too young to judge", func(p []portion) { p[0].age, p[1].age = 0, 0 }, -1, 0, -1},
		{"no response yet", func(p []portion) { p[0].rate, p[1].rate = 0, 0 }, -1, 0, -1},
		{"soon done", func(p []portion) { p[0].rate, p[1].rate = 1<<30, 1<<30 }, -1, 0, -1},
		{"the frontier lags", func(p []portion) { p[0].rate = 1 << 19 }, 1, 0, 0},
		{"slow, but not at the frontier", func(p []portion) { p[0].rate = 1 << 19 }, 1, 10 * mib, -1},
		{"slow together", func(p []portion) { p[1].rate, p[2].rate = 1<<20, 1<<20 }, 1, 0, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := append([]portion(nil), parts...)
			tt.change(p)
			if i, ok := longest(p, stealTime); ok != (tt.longest >= 0) || ok && i != tt.longest {
				t.Errorf("longest = %d, %t, want %d", i, ok, tt.longest)
			}
			if i, ok := lagging(p, tt.frontier, stealTime); ok != (tt.lagging >= 0) || ok && i != tt.lagging {
				t.Errorf("lagging = %d, %t, want %d", i, ok, tt.lagging)
			}
		})
	}
}

// eager is an asker that the budgets never refuse.
func eager() asker {
	return asker{workers: 8, worth: stealTime, admit: func() bool { return true }, dismiss: func() {}}
}

// slowLease is a scheduler whose only lease has been slow for a while.
func slowLease(total int64) (*scheduler, *lease) {
	s := newScheduler(total)
	l := s.take(total)
	s.limit = 8
	s.ask(l, func(error) {})
	l.meter.began = l.meter.began.Add(-time.Minute)
	l.meter.last = 1000
	return s, l
}

func TestSchedulerTakesTheBackOver(t *testing.T) {
	t.Parallel()
	s, l := slowLease(16 * unitSize)
	s.admit(l, 100)
	s.wrote(l, 100)
	task := s.offer(t.Context(), eager(), time.Now())
	if task == nil || task.double || task.lease.next != 8*unitSize || task.lease.end != 16*unitSize || l.end != 8*unitSize {
		t.Fatalf("task %+v, the victim ends at %d", task, l.end)
	}
	l.next = 8*unitSize - 10
	if n := s.admit(l, 4096); n != 10 {
		t.Errorf("%d bytes are still the victim's, want 10", n)
	}
}

func TestOneOwnerCommitsAUnit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		owner func(*scheduler, *lease) // what the lease's worker does meanwhile
		want  bool                     // that the second worker commits
	}{
		{"the owner dawdles", func(*scheduler, *lease) {}, true},
		{"the owner gives up", func(s *scheduler, l *lease) { s.release(l) }, true},
		{"the owner is first", func(s *scheduler, l *lease) {
			s.admit(l, unitSize-100)
			if err := s.wroteUnit(l, unitSize-100, heldUnit{unit: 0, size: unitSize}); err != nil {
				panic(err)
			}
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s, l := slowLease(unitSize)
			ended := context.Canceled
			l.cancel = func(err error) { ended = err }
			s.admit(l, 100)
			s.wrote(l, 100)
			task := s.offer(t.Context(), eager(), time.Now())
			if task == nil || !task.double || task.size != unitSize {
				t.Fatalf("task %+v, want the unit in flight", task)
			}
			if again := s.offer(t.Context(), eager(), time.Now()); again != nil {
				t.Fatalf("a third worker gets %+v", again)
			}
			tt.owner(s, l)
			if got := s.claim(task); got != tt.want {
				t.Fatalf("claim = %t", got)
			}
			if done := task.ctx.Err() != nil; done == tt.want {
				t.Errorf("the second request is ended: %t", done)
			}
			if tt.want && s.admit(l, 10) != 0 {
				t.Error("the former owner may still write")
			}
			if tt.name == "the owner dawdles" && ended != errTaken { //nolint:errorlint // the very value
				t.Errorf("the owner's response ended with %v", ended)
			}
		})
	}
}

func TestClaimWaitsForAWrite(t *testing.T) {
	t.Parallel()
	s, l := slowLease(unitSize)
	task := s.offer(t.Context(), eager(), time.Now())
	if s.admit(l, 10) != 10 {
		t.Fatal("no write")
	}
	claimed := make(chan bool)
	go func() { claimed <- s.claim(task) }()
	select {
	case <-claimed:
		t.Fatal("claimed in the middle of a write")
	case <-time.After(20 * time.Millisecond):
	}
	s.wrote(l, 10)
	if !<-claimed {
		t.Error("not claimed after the write")
	}
}

func TestSlowest(t *testing.T) {
	t.Parallel()
	const old, mb = time.Minute, 1e6
	peers := func(rates ...float64) (paces []pace) {
		for _, r := range rates {
			paces = append(paces, pace{r, old})
		}
		return paces
	}
	tests := []struct {
		name  string
		paces []pace
		want  int // -1: none
	}{
		{"one of eight at 1 %", peers(20*mb, 20*mb, 20*mb, 0.2*mb, 20*mb, 20*mb, 20*mb, 20*mb), 3},
		{"all of them at 1 %", peers(0.2*mb, 0.2*mb, 0.2*mb, 0.2*mb), -1},
		{"a slow link with jitter", peers(0.2*mb, 0.1*mb, 0.3*mb, 0.05*mb), -1},
		{"slow among the fast, but fast", peers(1000*mb, 1000*mb, 1000*mb, 10*mb), -1},
		{"a third of the others", peers(3*mb, 3*mb, 3*mb, 1*mb), -1},
		{"two do not make a median", peers(20*mb, 0.1*mb), -1},
		{"just begun", append(peers(20*mb, 20*mb, 20*mb), pace{0.1 * mb, time.Millisecond}), -1},
		{"none", nil, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if i, ok := slowest(tt.paces, meterWindow); ok != (tt.want >= 0) || ok && i != tt.want {
				t.Errorf("slowest = %d, %t, want %d", i, ok, tt.want)
			}
		})
	}
}

func TestMeter(t *testing.T) {
	t.Parallel()
	start := time.Unix(100, 0)
	var m meter
	m.sample(start, 5)
	m.start(start, 5)
	if got := m.rate(start.Add(500*time.Millisecond), 5+1<<20); got != 2<<20 {
		t.Errorf("rate in the first window %g", got)
	}
	m.sample(start.Add(2*time.Second), 5+4<<20)
	if got := m.rate(start.Add(2500*time.Millisecond), 1<<40); got < 2<<20-10 || got > 2<<20+10 {
		t.Errorf("rate of the last window %g", got)
	}
	m.sample(start.Add(4*time.Second), 5+4<<20)
	if got := m.rate(start.Add(4*time.Second), 5+4<<20); got != 1 {
		t.Errorf("rate of a silent window %g", got)
	}
}

func TestCoolDown(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	var c coolDown
	for _, want := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, replaceMost, replaceMost} {
		if !c.over(now) {
			t.Fatal("the first replacement has to wait")
		}
		c.begin(now)
		if now = now.Add(want - 1); c.over(now) {
			t.Errorf("over before %s", want)
		}
		now = now.Add(1)
	}
}
