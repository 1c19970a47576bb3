package main

import (
	"io"
	"strings"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/proc"
)

// measured is a run of S1 with one peer.
func measured(own, peer float64, capped bool) *results {
	s := scenarios()[0]
	usage := proc.Usage{CPUSeconds: 1, PeakRSS: 30 * mib, PeakDirty: mib}
	return &results{
		size: fullSize, terms: map[string]terms{s.name: {setUp: 0.1, network: 1, disk: 0.5}},
		rows: []row{
			{scenario: s, tool: ours, seconds: own, usage: usage},
			{scenario: s, tool: curlThenHash, seconds: peer, sockets: 1, usage: usage, capped: capped},
		},
	}
}

func TestMissed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name           string
		results        *results
		wantMissed     string
		wantUnmeasured string
	}{
		{"reached", measured(1.2, 2, false), "", ""},
		{"slower than allowed", measured(1.4, 2, false), "S1: seconds ÷ those of the best peer is 0.7, and has to be ≤ 0.65", ""},
		{"a stopped peer needs more than its seconds", measured(1.2, 2, true), "", "S1: CPU seconds ÷ those of curl and openssl ≤ 1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			missed, unmeasured := test.results.missed()
			if got := strings.Join(missed, "\n"); got != test.wantMissed {
				t.Errorf("missed %q, want %q", got, test.wantMissed)
			}
			if got := strings.Join(unmeasured, "\n"); got != test.wantUnmeasured {
				t.Errorf("unmeasured %q, want %q", got, test.wantUnmeasured)
			}
		})
	}
}

func TestScore(t *testing.T) {
	t.Parallel()
	r := measured(2.2, 4.4, false)
	if got := r.score(r.rows[0]); got != 0.5 {
		t.Errorf("T*/T is %g, want 0.5", got)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		values []float64
		want   float64
	}{{"odd", []float64{3, 1, 2}, 2}, {"even", []float64{4, 1, 2, 3}, 2.5}, {"one", []float64{7}, 7}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := median(test.values); got != test.want {
				t.Errorf("median of %v is %g, want %g", test.values, got, test.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		args    string
		want    func(config) bool
		wantErr bool
	}{
		{"nothing is everything", "", func(c config) bool { return c.all && c.rounds == 7 && strings.HasSuffix(c.out, "docs/benchmarks") }, false},
		{"some of it is not saved", "-scenarios=S3,S1", func(c config) bool { return !c.all && c.out == "" && c.scenarios[0].name == "S1" }, false},
		{"ours is always there", "-tools=aria2", func(c config) bool { return len(c.tools) == 2 && c.tools[0].name == ours }, false},
		{"another build comes last", "-tools=aria2 -before=/x", func(c config) bool { return len(c.tools) == 3 && c.tools[2].name == before && !c.all }, false},
		{"with another build nothing is saved", "-before=/x", func(c config) bool { return !c.all && c.out == "" }, false},
		{"size", "-size=256MiB", func(c config) bool { return c.size == 256*mib }, false},
		{"unknown scenario", "-scenarios=S0", nil, true},
		{"size without sense", "-size=2TB", nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, err := parse(strings.Fields(test.args), io.Discard)
			if (err != nil) != test.wantErr {
				t.Fatalf("error %v, want one: %t", err, test.wantErr)
			}
			if err == nil && !test.want(c) {
				t.Errorf("%q gave %+v", test.args, c)
			}
		})
	}
}
