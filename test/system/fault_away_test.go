package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestFault08APIServerAway takes the API server away in the middle of a pull, until the pull has ended and the manager has lost
// its lease.
func TestFault08APIServerAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "away")
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := w.newGroup(t, "away", 1)
	g.observe(t)
	node := g.nodes[0]
	f := g.serve(t, 64*mib, 1, origin.File{BytesPerSecond: 2 * mib})
	g.apply(t, "away", f, func(spec *v1alpha1.CloudImageSpec) { spec.Download.Connections = 4 })
	eventually(t, "a pull that is under way", func(context.Context) error { return atLeast(f, 8*mib) })
	if err := w.plane.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if sent := suite.origin.BytesSent(f.urlPath); sent >= f.size {
		t.Fatalf("%d bytes of %d were sent before the outage, which therefore came too late", sent, f.size)
	}
	eventually(t, "the pull ends without an API server", func(context.Context) error {
		_, err := os.Stat(filepath.Join(node.Store, "images", "away"))
		return err
	})
	g.requireOnly(t, f.digest)
	manager := w.cluster.Manager()
	eventually(t, "the manager gives up its lease", func(context.Context) error {
		if manager.Starts() < 2 {
			return errors.New("it still runs")
		}
		return nil
	})
	if err := node.Probe(t.Context()); err != nil || node.Starts() != 1 {
		t.Errorf("the agent was started %d times and says %v, want it ready: its store is usable", node.Starts(), err)
	}

	sent := suite.origin.BytesSent(f.urlPath)
	if err := w.plane.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, 3*patience, "the image, once the API server is back", func(ctx context.Context) error {
		return g.ready(ctx, "away", 1, f.digest)
	})
	const caches = `resource="nodeimagecaches"`
	eventually(t, "the watches of manager, agent and this test", func(context.Context) error {
		if watches := w.metric(t, "apiserver_longrunning_requests", caches, `verb="WATCH"`); watches < 3 {
			return fmt.Errorf("there are %d", watches)
		}
		return nil
	})
	for quiet := time.Now().Add(2 * time.Second); time.Now().Before(quiet); time.Sleep(100 * time.Millisecond) {
		if reports := w.answered(t, caches, `subresource="status"`, `verb="PATCH"`); reports != 1 {
			t.Fatalf("the node reported %d times after the outage, want once", reports)
		}
	}
	if again := suite.origin.BytesSent(f.urlPath) - sent; again > 0 {
		t.Errorf("%d bytes were downloaded after the pull had ended", again)
	}
}

// answered counts the answers of the API server since it was started, by labels of its metric.
func (w *world) answered(t *testing.T, labels ...string) int {
	t.Helper()
	return w.metric(t, "apiserver_request_total", labels...)
}

// metric sums up the series of the API server's metric that have all the labels.
func (w *world) metric(t *testing.T, metric string, labels ...string) (sum int) {
	t.Helper()
	text, err := w.cluster.Client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		name, of, _ := strings.Cut(series, "{")
		if name != metric || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(of, l) }) {
			continue
		}
		count, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += int(count)
	}
	return sum
}
