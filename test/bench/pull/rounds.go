package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/origin"
)

const (
	// hopeless is how many times our own time a peer takes in round 0 to be measured in hopelessRounds only.
	hopeless, hopelessRounds = 3, 1
	// patience is how many times our own time a peer may take before it is stopped; it is not asked again then.
	patience = 10
	// leastPatience leaves room where our own time is short, and mostPatience is for us.
	leastPatience = time.Minute
	mostPatience  = time.Hour
)

// key names one cell of rounds.
type key struct{ scenario, tool string }

// rounds collects samples.
type rounds struct {
	bench   *bench
	log     io.Writer
	samples map[key][]sample
	terms   map[string][]terms
	own     map[string]time.Duration // our time of round 0, by scenario
	slow    map[key]bool             // peers without hope
}

// newBench makes the objects, the certificates and a directory. The caller closes it.
func newBench(ctx context.Context, c config) (b *bench, err error) {
	if err := checkDisk(c.dir); err != nil {
		return nil, err
	}
	b = &bench{config: c}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.base, err = os.MkdirTemp(c.dir, "bench-pull-"); err != nil {
		return b, fmt.Errorf("make a directory: %w", err)
	}
	b.objects = map[int64]origin.Object{}
	for _, size := range append(sizes(c), c.size) {
		if _, ok := b.objects[size]; ok {
			continue
		}
		object, err := origin.NewObject(ctx, size, 0)
		if err != nil {
			return b, err
		}
		b.objects[size] = object
	}
	if slices.ContainsFunc(c.scenarios, func(s scenario) bool { return s.kind == many }) {
		for i := range manyPulls {
			part, err := origin.NewObject(ctx, c.size/manyPulls, byte(i+1))
			if err != nil {
				return b, err
			}
			b.parts = append(b.parts, part)
		}
	}
	if b.tls, b.caPEM, err = origin.NewTLS(); err != nil {
		return b, err
	}
	b.caFile = filepath.Join(b.base, "ca.pem")
	if err := os.WriteFile(b.caFile, b.caPEM, 0o600); err != nil {
		return b, fmt.Errorf("write the authority: %w", err)
	}
	return b, nil
}

// sizes are those of the objects of all scenarios.
func sizes(c config) []int64 {
	all := make([]int64, len(c.scenarios))
	for i, s := range c.scenarios {
		all[i] = s.size(c.size)
	}
	return all
}

func (b *bench) close() (err error) {
	if b.base != "" {
		err = os.RemoveAll(b.base)
	}
	for _, object := range append(slices.Collect(maps.Values(b.objects)), b.parts...) {
		err = errors.Join(err, object.Close())
	}
	return err
}

// measure runs everything, round by round, so that a change of the machine's mood meets all tools. Round 0 does not count.
func (b *bench) measure(ctx context.Context, log io.Writer) (*results, error) {
	all := &rounds{bench: b, log: log, samples: map[key][]sample{}, terms: map[string][]terms{}, own: map[string]time.Duration{}, slow: map[key]bool{}}
	for number := range b.config.rounds + 1 {
		if err := all.round(ctx, number); err != nil {
			return nil, fmt.Errorf("round %d: %w", number, err)
		}
	}
	return all.results(), nil
}

func (all *rounds) round(ctx context.Context, number int) error {
	b := all.bench
	free, err := b.measureLine(ctx, scenario{})
	if err != nil {
		return err
	}
	machine, err := b.measureMachine(ctx)
	if err != nil {
		return err
	}
	for _, s := range b.config.scenarios {
		limited := free
		if s.pace != nil || s.relay || s.tls {
			if limited, err = b.measureLine(ctx, s); err != nil {
				return err
			}
		}
		size := s.size(b.config.size)
		t := newTerms(size, free, limited, machine.scale(float64(size)/float64(b.config.size)))
		if s.kind == many {
			t.lines = float64(b.config.size) / float64(nodeLimit(b.config.size))
		}
		if number > 0 {
			all.terms[s.name] = append(all.terms[s.name], t)
		}
		if err := all.scenario(ctx, s, number); err != nil {
			return err
		}
	}
	return nil
}

// scenario runs each tool once, in another order each round; ours comes first in round 0, for the limit.
func (all *rounds) scenario(ctx context.Context, s scenario, number int) error {
	fraction := 0.1 + 0.8*rand.New(rand.NewPCG(uint64(number), 6)).Float64() //nolint:gosec // not a secret
	chosen := slices.DeleteFunc(slices.Clone(all.bench.config.tools), func(t tool) bool {
		return s.tools != nil && !slices.Contains(s.tools, t.name) && (t.name != before || s.kind == many)
	})
	for i := range chosen {
		t := chosen[(i+number)%len(chosen)]
		k := key{s.name, t.name}
		samples := all.samples[k]
		if len(samples) > 0 && samples[0].capped || all.slow[k] && len(samples) >= hopelessRounds {
			continue
		}
		limit := mostPatience
		if t.name != ours {
			limit = max(leastPatience, patience*all.own[s.name])
		}
		one, err := all.bench.run(ctx, s, t, task{fraction: fraction, limit: limit, check: number == 0})
		if err != nil {
			return err
		}
		if took := time.Duration(one.seconds * float64(time.Second)); number == 0 && t.name == ours {
			all.own[s.name] = took
		} else if number == 0 {
			all.slow[k] = took > hopeless*all.own[s.name]
		}
		if number > 0 || one.capped {
			all.samples[k] = append(all.samples[k], one)
		}
		all.report(number, k, one)
	}
	return nil
}

func (all *rounds) report(number int, k key, one sample) {
	note := ""
	if one.capped {
		note = ", stopped"
	}
	fmt.Fprintf(all.log, "round %d of %d: %s %-16s %7.2f s, %3d sockets, %5.2f CPU s%s\n",
		number, all.bench.config.rounds, k.scenario, k.tool, one.seconds, one.sockets, one.usage.CPUSeconds, note)
}

func (all *rounds) results() *results {
	r := &results{size: all.bench.config.size, terms: map[string]terms{}}
	for _, s := range all.bench.config.scenarios {
		r.terms[s.name] = medianTerms(all.terms[s.name])
		for _, t := range all.bench.config.tools {
			if samples := all.samples[key{s.name, t.name}]; len(samples) > 0 {
				r.rows = append(r.rows, newRow(s, t.name, samples))
			}
		}
	}
	return r
}
