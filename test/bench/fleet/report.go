package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// write prints the report as Markdown.
func (r *results) write(w io.Writer, a about) {
	c := r.config
	fmt.Fprintf(w, "# Fleet benchmark\n\nBy `make bench-fleet`, %s: %d nodes × %d images, simulated pulls of %s, two at a time on a node.\n\n", a.date, c.nodes, c.images, c.pull)
	if !c.full() {
		fmt.Fprintf(w, "**Not a full run**: that has %d nodes × %d images, pulls of %s and %s of rest.\n\n", fullNodes, fullImages, fullPull, fullIdle)
	}
	if a.load > 0.5 {
		fmt.Fprintf(w, "**The machine was not idle**: its load was %.1f at the start.\n\n", a.load)
	}
	fmt.Fprintf(w, "%s. Everything shares these cores: API server, etcd without fsync, manager, and all agents in one process.\n\n", a.machine)
	for _, version := range a.versions {
		fmt.Fprintf(w, "- %s\n", version)
	}
	fmt.Fprint(w, "\nThe manager is the real program with its default flags. An agent is the real reporter and workers with a connection, a watch and a token\n"+
		"of its own, bound to its Pod; its engine only waits. Nodes are of 15 kB, URLs of 100 characters. Kubelets send no heartbeats.\n\n")
	for _, p := range r.phases {
		fmt.Fprintf(w, "- **%s**: %s\n", p.name, p.title)
	}
	r.writeTimes(w)
	r.writeWrites(w)
	r.writeUsage(w)
	r.writeBars(w)
}

func (r *results) writeTimes(w io.Writer) {
	fmt.Fprint(w, "\n## Times\n\nSeconds from the first apply: until every agent has seen every order, and until every image is Ready. To an agent: from applying an image to\n"+
		"its order in the agent's hands, for each node and image; for nodes that join, from its agent's Pod, which is Ready, becoming visible to all its orders. The\n"+
		"first reports of these come some seconds later, which is after the end of join. Writes: the\n"+
		"calls of the manager and the agents that change something, as the API server's audit log times them.\n\n")
	fmt.Fprint(w, "| phase | nodes | seconds | assigned | Ready | to an agent p50 | p99 | writes p50 ms | p99 ms | pulling at once |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, p := range r.phases {
		delays := p.round.Delays
		if len(p.joins) > 0 {
			delays = p.joins
		}
		fmt.Fprintf(w, "| %s | %d | %.0f | %s | %s | %s | %s | %s | %s | %d |\n", p.name, p.nodes, p.seconds(),
			orDash(p.assigned, time.Second), orDash(p.ready, time.Second),
			orDash(quantile(delays, 0.5), time.Second), orDash(quantile(delays, 0.99), time.Second),
			orDash(quantile(p.writes.calls, 0.5), time.Millisecond), orDash(quantile(p.writes.calls, 0.99), time.Millisecond), p.round.MostPulling)
	}
	for _, p := range r.phases {
		if p.leaderless > 0 {
			fmt.Fprintf(w, "\nIn %s the manager was killed with SIGKILL; the next one wrote its first orders %.1f s later, of which a Lease lasts up to 15 s.\n", p.name, p.leaderless.Seconds())
		}
	}
}

func orDash(length, unit time.Duration) string {
	if length == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3g", float64(length)/float64(unit))
}

func (r *results) writeWrites(w io.Writer) {
	fmt.Fprint(w, "\n## Writes\n\nFrom the API server's audit log. What the bench itself and the API server write is left out.\n\n")
	fmt.Fprint(w, "| phase | who | verb | what | count | refused | a node | a node and image |\n|---|---|---|---|--:|--:|--:|--:|\n")
	for _, p := range r.phases {
		for _, k := range p.writes.kinds() {
			if k.who == who(adminUser) || k.who == who(serverUser) {
				continue
			}
			n := float64(p.writes.counts[k])
			perPair := "-"
			if p.images > 0 {
				perPair = fmt.Sprintf("%.3f", n/float64(p.nodes*p.images))
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %.0f | %d | %.2f | %s |\n", p.name, k.who, k.verb, k.resource, n, p.writes.failed[k], n/float64(p.nodes), perPair)
		}
	}
	fmt.Fprint(w, "\nOf a node: its orders (spec) and reports (status), and all Nodes' labels.\n\n"+
		"| phase | spec, mean | most | status, mean | most | Node patches |\n|---|--:|--:|--:|--:|--:|\n")
	for _, p := range r.phases {
		n := float64(p.nodes)
		fmt.Fprintf(w, "| %s | %.2f | %d | %.2f | %d | %d |\n", p.name, float64(sum(p.writes.specs))/n, most(p.writes.specs),
			float64(sum(p.writes.statuses))/n, most(p.writes.statuses), p.writes.nodePatches)
	}
	r.writeBytes(w)
}

// writeBytes divides by the pairs of a node and an image where there are images.
func (r *results) writeBytes(w io.Writer) {
	fmt.Fprintf(w, "\nkB in all, and bytes for each node and image in brackets. Bodies of the agents' writes, and of the manager's to the same objects and to CloudImages;\n"+
		"watch events of NodeImageCaches to everybody; what went over the agents' connections, with headers and TLS; what the manager read and\n"+
		"wrote. The largest NodeImageCache has %d bytes.\n\n", r.largest)
	fmt.Fprint(w, "| phase | status bodies | spec bodies | CloudImage bodies | watch events | agents sent | agents received | manager moved |\n|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, p := range r.phases {
		cell := func(count float64) string {
			if p.images == 0 {
				return fmt.Sprintf("%.0f", count/1000)
			}
			return fmt.Sprintf("%.0f (%.0f)", count/1000, count/float64(p.nodes*p.images))
		}
		statuses := float64(p.traffic.Bodies)
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", p.name, cell(statuses), cell(max(0, p.stock.bodies[cachesResource]-statuses)),
			cell(p.stock.bodies[imagesResource]), cell(p.stock.watchBytes[cachesResource]), cell(float64(p.traffic.Sent)),
			cell(float64(p.traffic.Received)), cell(float64(p.usage["manager"].moved)))
	}
}

func (r *results) writeUsage(w io.Writer) {
	fmt.Fprint(w, "\n## CPU and memory\n\nCPU seconds, and the most resident MiB.\n\n| phase |")
	for _, name := range programs() {
		fmt.Fprintf(w, " %s CPU s | MiB |", name)
	}
	fmt.Fprint(w, "\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, p := range r.phases {
		fmt.Fprintf(w, "| %s |", p.name)
		for _, name := range programs() {
			fmt.Fprintf(w, " %.1f | %.0f |", p.usage[name].cpuSeconds, float64(p.usage[name].maxRSS)/mib)
		}
		fmt.Fprintln(w)
	}
}

func (r *results) writeBars(w io.Writer) {
	fmt.Fprint(w, "\n## Bars\n\n| | bar | measured | at most |\n|---|---|--:|--:|\n")
	for _, b := range r.bars() {
		mark := "met"
		if !b.met() {
			mark = "**missed**"
		}
		fmt.Fprintf(w, "| %s | %s | %.4g | %.4g |\n", mark, b.what, b.value, b.limit)
	}
	for _, p := range r.phases {
		if p.name == "idle" && p.writes.unrest() > 0 {
			fmt.Fprintf(w, "\nWritten while nothing changed: %s.\n", p.writes.describeUnrest())
		}
	}
}

// curve is what the plotter draws of a phase.
type curve struct {
	Name   string
	Pairs  int
	Points []point
}

// save writes the report and the plot.
func (r *results) save(ctx context.Context, report []byte) error {
	dir, name := r.config.out, r.config.name()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("save the report: %w", err)
	}
	report = fmt.Appendf(report, "\n![share of the nodes and images that are Ready, and pulls at the same time](%s.svg)\n", name)
	if err := os.WriteFile(filepath.Join(dir, name+".md"), report, 0o644); err != nil {
		return fmt.Errorf("save the report: %w", err)
	}
	var curves []curve
	for _, p := range r.phases {
		if len(p.curve) > 0 {
			curves = append(curves, curve{Name: p.name, Pairs: p.nodes * p.images, Points: p.curve})
		}
	}
	data, err := json.Marshal(curves)
	if err != nil {
		return fmt.Errorf("encode the curves: %w", err)
	}
	draw := exec.CommandContext(ctx, r.config.plotter, filepath.Join(dir, name+".svg"))
	draw.Stdin, draw.Stdout, draw.Stderr = bytes.NewReader(data), os.Stdout, os.Stderr
	if err := draw.Run(); err != nil {
		return fmt.Errorf("draw the plot: %w", err)
	}
	return nil
}
