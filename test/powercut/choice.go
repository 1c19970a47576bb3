package powercut

import (
	"fmt"
	"math/rand/v2"
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
	data   func() Fate                              // of the next open change
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

func always(f Fate) func() Fate { return func() Fate { return f } }

// Choices returns what to try for a power cut before the operation at: all or
// nothing of the names with every fate of the data; each name for itself; every
// prefix of the changes of names, as a journal in order leaves them; and so many
// choices at random, the same for a seed.
func (d *Disk) Choices(at int, seed uint64, random int) []Choice {
	d.mu.Lock()
	slots := d.slots(at)
	d.mu.Unlock()
	maker := choices{seed: seed, at: at}
	for fate := range fates {
		maker.add("every name", newest, fate)
	}
	maker.add("no name", oldest, Lost)
	maker.add("no name", oldest, Kept)
	number, moments := 0, map[int]bool{}
	for _, s := range slots {
		if !s.open() {
			continue
		}
		for _, fate := range []Fate{Lost, Kept} {
			maker.add(fmt.Sprintf("only %s", s.dir.below(s.name)), but(number, newest, oldest), fate)
			maker.add(fmt.Sprintf("all but %s", s.dir.below(s.name)), but(number, oldest, newest), fate)
		}
		number++
		for _, v := range s.versions[1:] {
			if !moments[v.at] {
				moments[v.at] = true
				maker.add(fmt.Sprintf("names until operation %d", v.at), until(v.at), Lost)
			}
		}
	}
	for i := range random {
		maker.addRandom(i)
	}
	return maker.all
}

type choices struct {
	seed uint64
	at   int
	all  []Choice
}

func (m *choices) source() *rand.Rand {
	return rand.New(rand.NewPCG(m.seed, uint64(m.at)<<32|uint64(len(m.all)))) //nolint:gosec // no secret: the same each time
}

func (m *choices) add(label string, names func(int, []version) int, fate Fate) {
	label = fmt.Sprintf("%s, data %s", label, fate)
	m.all = append(m.all, Choice{Label: label, names: names, data: always(fate), random: m.source()})
}

func (m *choices) addRandom(number int) {
	r := m.source()
	m.all = append(m.all, Choice{
		Label:  fmt.Sprintf("random choice %d of seed %d", number, m.seed),
		names:  func(_ int, versions []version) int { return r.IntN(len(versions)) },
		data:   func() Fate { return Fate(r.IntN(int(fates))) },
		random: r,
	})
}
