package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/fleet/audit"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func write(user, verb, resource, name string, second float64) audit.Write {
	return audit.Write{User: user, Verb: verb, Resource: resource, Name: name, Code: 200, Took: time.Millisecond,
		At: start.Add(time.Duration(second * float64(time.Second)))}
}

func TestTally(t *testing.T) {
	refused := write(agentUser, "patch", statusResource, "n-2", 3)
	refused.Code = 403
	writes := []audit.Write{
		write(managerUser, "create", cachesResource, "n-1", -0.1), // of the phase before
		write(managerUser, "create", cachesResource, "n-1", 0),
		write(managerUser, "patch", cachesResource, "n-1", 1),
		write(managerUser, "patch", nodesResource, "n-1", 1),
		write(agentUser, "patch", statusResource, "n-1", 2),
		refused,
		write(adminUser, "create", imagesResource, "a", 2),
		write(managerUser, "update", "leases", "cloudimage-manager", 4),
		write(managerUser, "create", cachesResource, "n-3", 10), // of the next
	}
	got := tallyOf(writes, start, start.Add(10*time.Second))
	want := tally{
		counts: map[kind]int{
			{"manager", "create", cachesResource}: 1, {"manager", "patch", cachesResource}: 1, {"manager", "patch", nodesResource}: 1,
			{"agents", "patch", statusResource}: 2, {"the bench", "create", imagesResource}: 1, {"manager", "update", "leases"}: 1,
		},
		failed: map[kind]int{{"agents", "patch", statusResource}: 1},
		specs:  map[string]int{"n-1": 2}, statuses: map[string]int{"n-1": 1, "n-2": 1}, nodePatches: 1,
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(tally{}, kind{}), cmpopts.IgnoreFields(tally{}, "calls")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(got.calls) != 6 {
		t.Errorf("%d calls, want those of the manager and the agents: 6", len(got.calls))
	}
}

func TestUnrest(t *testing.T) {
	for _, test := range []struct {
		name  string
		write audit.Write
		want  int
	}{
		{"the leader's Lease", write(managerUser, "update", "leases", "x", 0), 0},
		{"who may read the metrics", write(managerUser, "create", "subjectaccessreviews", "", 0), 0},
		{"whose token it is", write(agentUser, "create", "tokenreviews", "", 0), 0},
		{"the API server's own", write(serverUser, "patch", "flowschemas/status", "x", 0), 0},
		{"the bench", write(adminUser, "create", imagesResource, "x", 0), 0},
		{"a report", write(agentUser, "patch", statusResource, "n-1", 0), 1},
		{"an event", write(managerUser, "create", "events", "x", 0), 1},
		{"a stranger", write("system:node:n-1", "patch", nodesResource, "n-1", 0), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := tallyOf([]audit.Write{test.write}, start, start.Add(time.Second)).unrest(); got != test.want {
				t.Errorf("unrest is %d, want %d", got, test.want)
			}
		})
	}
}

func TestFirstOrders(t *testing.T) {
	writes := []audit.Write{
		write(managerUser, "patch", cachesResource, "n-1", 1), // before the kill
		write(agentUser, "patch", statusResource, "n-1", 2.5),
		write(managerUser, "update", "leases", "x", 3),
		write(managerUser, "patch", cachesResource, "n-1", 6), // answered before the next one
		write(managerUser, "patch", cachesResource, "n-2", 5),
	}
	if got := firstOrders(writes, start.Add(2*time.Second)); got != 3*time.Second {
		t.Errorf("the first orders came after %s, want 3s", got)
	}
	if got := firstOrders(writes, start.Add(time.Minute)); got != 0 {
		t.Errorf("orders came after %s, want none", got)
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i)
	}
	for _, test := range []struct {
		name   string
		values []time.Duration
		share  float64
		want   time.Duration
	}{
		{"none", nil, 0.5, 0},
		{"one", []time.Duration{7}, 0.99, 7},
		{"median", hundred, 0.5, 50},
		{"99th of a hundred", hundred, 0.99, 99},
		{"99th of ten", hundred[:10], 0.99, 100},
		{"largest", hundred, 1, 100},
	} {
		if got := quantile(test.values, test.share); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

func TestParseMetrics(t *testing.T) {
	got := parseMetrics([]byte(`# HELP apiserver_watch_events_total x
apiserver_watch_events_total{group="prefetch.cloudimage.dev",resource="nodeimagecaches",version="v1alpha1"} 12
apiserver_watch_events_sizes_sum{group="prefetch.cloudimage.dev",resource="nodeimagecaches",version="v1alpha1"} 3.5e+06
apiserver_watch_events_sizes_count{group="prefetch.cloudimage.dev",resource="nodeimagecaches",version="v1alpha1"} 12
apiserver_request_body_size_bytes_sum{group="prefetch.cloudimage.dev",resource="nodeimagecaches.prefetch.cloudimage.dev",verb="patch"} 100
apiserver_request_body_size_bytes_sum{group="prefetch.cloudimage.dev",resource="nodeimagecaches.prefetch.cloudimage.dev",verb="create"} 20
`))
	want := stock{
		bodies: map[string]float64{cachesResource: 120}, watchBytes: map[string]float64{cachesResource: 3.5e6},
		watchEvents: map[string]float64{cachesResource: 12},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(stock{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]float64{cachesResource: 0}, got.since(got).bodies); diff != "" {
		t.Errorf("since itself (-want +got):\n%s", diff)
	}
}

func TestParseStat(t *testing.T) {
	got, err := parseStat([]byte("7 (a name) with) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1 1"))
	if err != nil || got != 3 {
		t.Errorf("%g CPU seconds (%v), want 3", got, err)
	}
	if _, err := parseStat([]byte("7 (x) S")); err == nil {
		t.Error("a short stat was read")
	}
}

func TestSamplerSeesThisProcess(t *testing.T) {
	s := startSampler(map[string]func() int{"me": os.Getpid, "nobody": func() int { return 0 }})
	defer s.close()
	got := s.take()
	if got["me"].maxRSS < mib || got["nobody"] != (usage{}) {
		t.Errorf("usage is %+v", got)
	}
}

func TestImagesAreAsRealOnes(t *testing.T) {
	url, digest := describeImage(19, 2)
	if len(url) != urlLength || !strings.HasPrefix(url, "https://") {
		t.Errorf("the URL %s has %d characters", url, len(url))
	}
	if _, other := describeImage(19, 1); digest == other || len(digest) != len("sha256:")+64 {
		t.Errorf("digests are %s and %s", digest, other)
	}
}

func TestBars(t *testing.T) {
	good := func() *results {
		times := []time.Duration{time.Second}
		return &results{config: config{nodes: 1000, images: 20}, largest: 20_000, phases: []*phase{
			{name: "cold", nodes: 1000, images: 20, ready: time.Minute, began: start, ended: start.Add(150 * time.Second),
				usage:  map[string]usage{"manager": {maxRSS: 300 * mib}},
				writes: tally{specs: map[string]int{"n-1": 5}, statuses: map[string]int{"n-1": 50}}},
			{name: "idle", nodes: 1000},
			{name: "update", nodes: 1000, images: 20, ready: time.Minute, writes: tally{specs: map[string]int{"n-1": 44}}},
			{name: "join", nodes: 1500, joins: times, usage: map[string]usage{"manager": {maxRSS: 900 * mib}}},
		}}
	}
	if missed := missedOf(good().bars()); len(missed) > 0 {
		t.Errorf("missed %q", missed)
	}
	for _, test := range []struct {
		name, want string
		spoil      func(*results)
	}{
		{"memory", "resident MiB of the manager", func(r *results) { r.phases[1].usage = map[string]usage{"manager": {maxRSS: 301 * mib}} }},
		{"restart", "restarts of the manager", func(r *results) { r.restarts = 1 }},
		{"object", "bytes of the largest", func(r *results) { r.largest = 24_001 }},
		{"reports", "cold: status writes", func(r *results) { r.phases[0].writes.statuses["n-2"] = 51 }},
		{"orders at once", "cold: spec writes", func(r *results) { r.phases[0].writes.specs["n-2"] = 6 }},
		{"orders in turn", "update: spec writes", func(r *results) { r.phases[2].writes.specs["n-2"] = 45 }},
		{"too many pull", "update: most nodes", func(r *results) { r.phases[2].round.MostPulling = 101 }},
		{"no rest", "idle: writes", func(r *results) {
			r.phases[1].writes = tallyOf([]audit.Write{write(agentUser, "patch", statusResource, "n-1", 0)}, start, start.Add(1))
		}},
		{"slow join", "join: seconds", func(r *results) { r.phases[3].joins[0] = 6 * time.Second }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := good()
			test.spoil(r)
			missed := missedOf(r.bars())
			if len(missed) != 1 || !strings.HasPrefix(missed[0], test.want) {
				t.Errorf("missed %q, want %q alone", missed, test.want)
			}
			var report bytes.Buffer
			if r.write(&report, about{}); !strings.Contains(report.String(), "**missed** | "+test.want) {
				t.Errorf("the report does not say so:\n%s", &report)
			}
		})
	}
}

func TestParse(t *testing.T) {
	repo := t.TempDir()
	for _, test := range []struct {
		name string
		args []string
		out  string // below the repository
		file string
		bad  bool
	}{
		{"default", nil, "docs/benchmarks", "fleet", false},
		{"large", []string{"-nodes=5000", "-images=10"}, "docs/benchmarks", "fleet-5000x10", false},
		{"shortened", []string{"-idle=1m"}, "", "fleet", false},
		{"small", []string{"-nodes=50", "-images=3"}, "", "fleet-50x3", false},
		{"nothing", []string{"-nodes=0"}, "", "", true},
		{"argument", []string{"more"}, "", "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := parse(append(test.args, "-repo="+repo), io.Discard)
			if (err != nil) != test.bad {
				t.Fatalf("error is %v", err)
			}
			if test.bad {
				return
			}
			out := ""
			if test.out != "" {
				out = filepath.Join(repo, test.out)
			}
			if c.out != out || c.name() != test.file {
				t.Errorf("out is %q and name %q, want %q and %q", c.out, c.name(), out, test.file)
			}
		})
	}
}
