package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// write prints the report as Markdown.
func (r *results) write(w io.Writer, a about) {
	fmt.Fprintf(w, "# Pull benchmark\n\nBy `make bench-pull`, %s: %d MiB, medians of %d rounds after one that does not count.\n\n", a.date, r.size/mib, a.config.rounds)
	if !a.config.all {
		fmt.Fprintf(w, "**Not a full run**: that has %d MiB, %d rounds, every scenario and every tool.\n\n", fullSize/mib, fullRounds)
	}
	if a.load > 0.5 {
		fmt.Fprintf(w, "**The machine was not idle**: its load was %.1f at the start.\n\n", a.load)
	}
	fmt.Fprintf(w, "%s\n\n", a.machine)
	for _, tool := range a.tools {
		fmt.Fprintf(w, "- %s\n", tool)
	}
	fmt.Fprint(w, "\n")
	r.writeTable(w)
	r.writeTerms(w)
	r.writeBars(w)
}

func (r *results) writeTable(w io.Writer) {
	fmt.Fprintf(w, "Seconds are from exec to a file that is verified, on stable storage and renamed. Bytes are what the server's kernel sent, with headers and TLS.\n"+
		"Memory is the most of all rounds, the rest are medians. A peer that needs more than %d times as long as node-agent is measured in fewer rounds.\n\n", hopeless)
	fmt.Fprintf(w, "| %-3s | %-16s | %8s | %6s | %8s | %7s | %6s | %7s | %9s | %5s | %6s |\n", "", "tool", "seconds", "÷ ours", "MiB sent", "sockets", "CPU s", "RSS MiB", "dirty MiB", "T*/T", "rounds")
	fmt.Fprint(w, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, row := range r.rows {
		more, ratio := "", "-"
		if row.capped {
			more = ">"
		}
		if own, ok := r.row(row.scenario.name, ours); ok {
			ratio = fmt.Sprintf("%s%.2f", more, row.seconds/own.seconds)
		}
		fmt.Fprintf(w, "| %-3s | %-16s | %8s | %6s | %8.0f | %7.0f | %6.2f | %7.0f | %9.0f | %5.2f | %6d |\n", row.scenario.name, row.tool,
			fmt.Sprintf("%s%.2f", more, row.seconds), ratio, row.sent/mib, row.sockets, row.usage.CPUSeconds,
			float64(row.usage.PeakRSS)/mib, float64(row.usage.PeakDirty)/mib, r.score(row), row.rounds)
	}
}

func (r *results) writeTerms(w io.Writer) {
	fmt.Fprintf(w, "\nT* = set-up + the largest of: size ÷ network, size ÷ (%d connections × rate of one), size ÷ hash, size ÷ disk, CPU work ÷ cores;\n"+
		"in seconds, each measured in every round. The CPU work is that of both ends, hash and disk.\n\n", connections)
	fmt.Fprintf(w, "| %-3s | %-64s | %5s | %6s | %7s | %11s | %5s | %5s | %5s | %5s |\n", "", "scenario", "MiB", "set-up", "network", "connections", "hash", "disk", "CPU", "T*")
	fmt.Fprint(w, "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, s := range scenarios() {
		if t, ok := r.terms[s.name]; ok {
			fmt.Fprintf(w, "| %-3s | %-64s | %5d | %6.3f | %7.2f | %11.2f | %5.2f | %5.2f | %5.2f | %5.2f |\n", s.name, s.title, s.size(r.size)/mib, t.setUp, t.network, t.lines, t.hash, t.disk, t.cpu, t.bound())
		}
	}
}

func (r *results) writeBars(w io.Writer) {
	missed, unmeasured := r.missed()
	for _, list := range []struct {
		title string
		bars  []string
	}{{"Missed", missed}, {"Not measured", unmeasured}} {
		if len(list.bars) == 0 {
			continue
		}
		fmt.Fprintf(w, "\n%s:\n\n", list.title)
		for _, bar := range list.bars {
			fmt.Fprintf(w, "- %s\n", bar)
		}
	}
	if len(missed)+len(unmeasured) == 0 {
		fmt.Fprint(w, "\nEvery bar is reached.\n")
	}
}

// save writes the report and the plot.
func (r *results) save(dir string, report []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("save the report: %w", err)
	}
	report = append(report, "\n![time of each tool over the least possible](pull.png)\n"...)
	if err := os.WriteFile(filepath.Join(dir, "pull.md"), report, 0o644); err != nil {
		return fmt.Errorf("save the report: %w", err)
	}
	return r.plot(filepath.Join(dir, "pull.png"))
}
