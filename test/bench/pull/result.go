package main

import (
	"math"
	"slices"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/proc"
)

// row is one line of the table: what a tool did in a scenario, as medians of the rounds that count.
type row struct {
	scenario scenario
	tool     string
	rounds   int // that the medians are of
	seconds  float64
	// capped: it was stopped, and needs more than seconds.
	capped  bool
	sent    float64 // bytes
	sockets float64
	// usage has the medians of CPU seconds and the maxima of memory.
	usage proc.Usage
}

// results are all rows, and what bounds each scenario.
type results struct {
	size  int64
	rows  []row
	terms map[string]terms
}

func newRow(s scenario, tool string, samples []sample) row {
	of := func(get func(sample) float64) float64 {
		values := make([]float64, len(samples))
		for i, one := range samples {
			values[i] = get(one)
		}
		return median(values)
	}
	r := row{
		scenario: s, tool: tool, rounds: len(samples),
		seconds: of(func(s sample) float64 { return s.seconds }),
		capped:  slices.ContainsFunc(samples, func(s sample) bool { return s.capped }),
		sent:    of(func(s sample) float64 { return float64(s.sent) }),
		sockets: of(func(s sample) float64 { return float64(s.sockets) }),
		usage:   proc.Usage{CPUSeconds: of(func(s sample) float64 { return s.usage.CPUSeconds })},
	}
	for _, one := range samples {
		r.usage.PeakRSS = max(r.usage.PeakRSS, one.usage.PeakRSS)
		r.usage.PeakDirty = max(r.usage.PeakDirty, one.usage.PeakDirty)
	}
	return r
}

// row finds what a tool did; ok is false when it was not measured.
func (r *results) row(scenario, tool string) (row, bool) {
	i := slices.IndexFunc(r.rows, func(row row) bool { return row.scenario.name == scenario && row.tool == tool })
	if i < 0 {
		return row{}, false
	}
	return r.rows[i], true
}

// peers are the rows of the other tools.
func (r *results) peers(scenario string) []row {
	var peers []row
	for _, row := range r.rows {
		if row.scenario.name == scenario && row.tool != ours && row.tool != before {
			peers = append(peers, row)
		}
	}
	return peers
}

// score is T*/T of a row, 0 where nothing bounds it.
func (r *results) score(row row) float64 {
	if t, ok := r.terms[row.scenario.name]; ok {
		return t.bound() / row.seconds
	}
	return 0
}

// median of values, of which there is at least one.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		return math.NaN()
	}
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
