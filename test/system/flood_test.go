package system

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/flood"
)

// TestFloodOfTheMetricsPort sends half a gigabyte of unfinished headers to an agent, over TLS and without a token. The agent's
// memory stays what it was, its reader still scrapes, and its probe is answered.
func TestFloodOfTheMetricsPort(t *testing.T) {
	t.Parallel()
	const most = 200 * mib // beyond what it was; the race detector alone takes much of it
	g := newGroup(t, "flood", 1)
	agent, reader := g.nodes[0].Program, scraper(t, "flood-reader", true)
	origin, pid, starts := "https://"+agent.MetricsAddress(), agent.PID(), agent.Starts()
	scraped := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute) // Prometheus waits 10 s, but not on a machine that makes the flood, too
		defer cancel()
		if status, _, err := scrape(ctx, origin, reader); err != nil || status != http.StatusOK {
			return fmt.Errorf("a scrape with a valid token: status %d, error %w", status, err)
		}
		return nil
	}
	eventually(t, "a scrape before the flood", scraped)
	before := residentBytes(t, pid)
	attack, err := flood.Start(t.Context(), flood.Options{
		Address: agent.MetricsAddress(), TLS: true, Connections: 500, Bytes: mib,
		Peers: []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr("127.0.0.4")},
		Head:  "GET /metrics HTTP/1.1\r\nHost: agent\r\nX-Flood: ",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer attack.Stop()
	eventually(t, "the flood", func(context.Context) error {
		if opened, sent := attack.Opened.Load(), attack.Sent.Load(); opened < 500 || sent < 8*mib {
			return fmt.Errorf("%d connections and %d bytes until now", opened, sent)
		}
		return nil
	})
	peak := before
	for range 10 {
		if err := scraped(t.Context()); err != nil {
			t.Error(err)
		}
		eventually(t, "a probe", agent.Probe) // which waits a second, and the kubelet asks three times
		peak = max(peak, residentBytes(t, pid))
		time.Sleep(200 * time.Millisecond) // the flood goes on
	}
	t.Logf("%d connections and %d MiB were sent; memory %d → %d MiB", attack.Opened.Load(), attack.Sent.Load()/mib, before/mib, peak/mib)
	if peak-before > most {
		t.Errorf("the agent's memory grew from %d to %d MiB, want at most %d more", before/mib, peak/mib, int64(most)/mib)
	}
	if agent.Starts() != starts {
		t.Error("the agent was started again")
	}
}

// residentBytes is the memory that a process holds now (VmRSS of proc_pid_status(5)).
func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	number, _, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
	kib, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
