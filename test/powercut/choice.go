package powercut

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Fate is what becomes of a write that was not synced.
type Fate int

// The fates of a write.
const (
	Lost  Fate = iota // as if it had never been
	Kept              // whole
	Empty             // the size of the file without its bytes: zeros
	Torn              // some blocks and sectors of it
	Stale             // the size of the file, with what its blocks held before it
	fates
)

// String names the fate.
func (f Fate) String() string { return [...]string{"lost", "kept", "empty", "torn", "stale"}[f] }

// Choice decides all that a power cut leaves open. It is good for one cut.
type Choice struct {
	// Label says which choice it is, enough to make it again.
	Label string

	names  func(number int, versions []version) int // which version of an open name
	data   func(at int) Fate                        // of an open change
	random *rand.Rand                               // of what is torn
}

func oldest(int, []version) int            { return 0 }
func newest(_ int, versions []version) int { return len(versions) - 1 }

// until is a journal that was written in order, up to an operation.
func until(last int) func(int, []version) int {
	return func(_ int, versions []version) (pick int) {
		for i, v := range versions {
			if v.at <= last {
				pick = i
			}
		}
		return pick
	}
}

// but makes an exception for one name.
func but(exception int, it, others func(int, []version) int) func(int, []version) int {
	return func(number int, versions []version) int {
		if number == exception {
			return it(number, versions)
		}
		return others(number, versions)
	}
}

func always(f Fate) func(int) Fate { return func(int) Fate { return f } }

// around has one fate for the changes before an operation and another from it on.
func around(turn int, before, from Fate) func(int) Fate {
	return func(at int) Fate {
		if at < turn {
			return before
		}
		return from
	}
}

// Choices returns what to try for a power cut before the operation at: all or
// nothing of the names with every fate of the data; older data without newer and
// newer without older; each name for itself; every prefix of the changes of names,
// as a journal in order leaves them; and so many choices at random, the same for a
// seed.
func (d *Disk) Choices(at int, seed uint64, random int) []Choice {
	d.mu.Lock()
	slots, turns := d.slots(at), d.turns(at)
	d.mu.Unlock()
	maker := choices{seed: seed, at: at}
	for fate := range fates {
		maker.add("every name", newest, always(fate), fate.String())
	}
	maker.add("no name", oldest, always(Lost), "lost")
	maker.add("no name", oldest, always(Kept), "kept")
	for _, turn := range turns {
		maker.add("every name", newest, around(turn, Lost, Kept), fmt.Sprintf("lost until operation %d", turn))
		maker.add("every name", newest, around(turn, Kept, Lost), fmt.Sprintf("lost from operation %d on", turn))
	}
	number, moments := 0, map[int]bool{}
	for _, s := range slots {
		if !s.open() {
			continue
		}
		for _, fate := range []Fate{Lost, Kept} {
			maker.add(fmt.Sprintf("only %s", s.dir.below(s.name)), but(number, newest, oldest), always(fate), fate.String())
			maker.add(fmt.Sprintf("all but %s", s.dir.below(s.name)), but(number, oldest, newest), always(fate), fate.String())
		}
		number++
		for _, v := range s.versions[1:] {
			if !moments[v.at] {
				moments[v.at] = true
				maker.add(fmt.Sprintf("names until operation %d", v.at), until(v.at), always(Lost), "lost")
			}
		}
	}
	for i := range random {
		maker.addRandom(i)
	}
	return maker.all
}

// turnsMost bounds the moments at which the fate of data is tried to turn.
const turnsMost = 6

// turns returns moments between open changes of files, the last ones always.
func (d *Disk) turns(cut int) (turns []int) {
	var open []int
	for _, n := range d.nodes {
		for _, c := range n.changes {
			if c.at < cut && !n.durable(c, cut) {
				open = append(open, c.at)
			}
		}
	}
	slices.Sort(open)
	for i := len(open) - 1; i > 0 && len(turns) < turnsMost; i-- {
		turns = append(turns, open[i])
		if len(turns) >= turnsMost/2 {
			i -= len(open) / turnsMost
		}
	}
	return turns
}

type choices struct {
	seed uint64
	at   int
	all  []Choice
}

func (m *choices) source() *rand.Rand {
	return rand.New(rand.NewPCG(m.seed, uint64(m.at)<<32|uint64(len(m.all)))) //nolint:gosec // no secret: the same each time
}

func (m *choices) add(label string, names func(int, []version) int, data func(int) Fate, fate string) {
	m.all = append(m.all, Choice{Label: label + ", data " + fate, names: names, data: data, random: m.source()})
}

func (m *choices) addRandom(number int) {
	r := m.source()
	m.all = append(m.all, Choice{
		Label:  fmt.Sprintf("random choice %d of seed %d", number, m.seed),
		names:  func(_ int, versions []version) int { return r.IntN(len(versions)) },
		data:   func(int) Fate { return Fate(r.IntN(int(fates))) },
		random: r,
	})
}
