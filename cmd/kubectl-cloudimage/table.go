package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

// readyShown is how many ready nodes are listed without --all.
const readyShown = 20

// barWidth is in characters.
const barWidth = 20

// writeImage prints an image and its nodes.
func writeImage(w io.Writer, image *v1alpha1.CloudImage, rows []row, all bool) error {
	facts := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	writeLine(facts, "IMAGE", image.Name)
	writeLine(facts, "STATUS", summary(image))
	writeLine(facts, "SOURCE", sourceOf(image))
	writeLine(facts, "DIGEST", cmp.Or(image.Status.Digest, image.Spec.Digest, "not known yet: the first node's is taken"))
	if image.Status.SizeBytes > 0 {
		writeLine(facts, "SIZE", sizeOf(&image.Status))
	}
	fmt.Fprintln(facts)
	if err := facts.Flush(); err != nil {
		return fmt.Errorf("print the image: %w", err)
	}
	if err := writeRows(w, rows, all); err != nil {
		return err
	}
	if unnamed := unnamedAway(image); unnamed > 0 {
		fmt.Fprintf(w, "Agents that are away besides these: %d. Their nodes are shown as they last reported; see which: %s\n", unnamed, agentPods)
	}
	return nil
}

// agentPods is the command that lists the agents' Pods.
const agentPods = "kubectl get pods --all-namespaces --selector app.kubernetes.io/component=node-agent --output wide"

// unnamedAway is how many nodes' agents are away besides those that an image names: it names ten nodes at most.
func unnamedAway(image *v1alpha1.CloudImage) int {
	unnamed := int(image.Status.Nodes.Unavailable)
	for i := range image.Status.Failures {
		if image.Status.Failures[i].Reason == v1alpha1.ReasonAgentUnavailable {
			unnamed--
		}
	}
	return unnamed
}

// writeLine prints the cells of one line of a table. They hold what agents report
// and people write: escaped, no cell can end its line, or reach the terminal.
func writeLine(table io.Writer, cells ...string) {
	for i := range cells {
		cells[i] = redact.Printable(cells[i])
	}
	fmt.Fprintln(table, strings.Join(cells, "\t"))
}

func writeRows(w io.Writer, rows []row, all bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	writeLine(table, "NODE", "STATE", "PROGRESS", "RATE", "WHY")
	ready := 0
	for _, r := range rows {
		if r.state == stateReady {
			ready++
		}
		if all || r.state != stateReady || ready <= readyShown {
			writeLine(table, r.node, r.state, r.progress(), r.rateText(), r.why())
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the nodes: %w", err)
	}
	if hidden := ready - readyShown; hidden > 0 && !all {
		fmt.Fprintf(w, "and %d more ready nodes; --all lists them\n", hidden)
	}
	return nil
}

// writeImages prints one line with a bar for each image.
func writeImages(w io.Writer, images []v1alpha1.CloudImage) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	writeLine(table, "IMAGE", "NODES READY", "RATE", "STATUS")
	for i := range images {
		image := &images[i]
		ready, desired := max(0, image.Status.Nodes.Ready), max(0, image.Status.Nodes.Desired)
		nodes := fmt.Sprintf("%s %d of %d", bar(int64(ready), int64(desired)), ready, desired)
		writeLine(table, image.Name, nodes, cmp.Or(image.Status.Throughput, "-"), summary(image))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print the images: %w", err)
	}
	return nil
}

// summary is the Ready condition in one line.
func summary(image *v1alpha1.CloudImage) string {
	ready := meta.FindStatusCondition(image.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || !takenUp(image) {
		return errLeftBehind.Error()
	}
	return ready.Reason + ": " + ready.Message
}

// sourceOf leaves out the query, where signatures are.
func sourceOf(image *v1alpha1.CloudImage) string {
	if image.Spec.Source.HTTP == nil {
		return "unknown to this version of the plugin"
	}
	url, _, signed := strings.Cut(image.Spec.Source.HTTP.URL, "?")
	if signed {
		url += "?…"
	}
	return url
}

func sizeOf(status *v1alpha1.CloudImageStatus) string {
	text := bytesText(status.SizeBytes)
	if status.Format != "" {
		text += ", " + string(status.Format)
	}
	if status.VirtualSizeBytes > 0 {
		text += ", a disk of " + bytesText(status.VirtualSizeBytes)
	}
	if status.Encryption != "" {
		text += ", encrypted (" + string(status.Encryption) + ")"
	}
	return text
}

func (r row) progress() string {
	switch {
	case r.state == stateReady:
		return bytesText(r.size)
	case r.done == 0:
		return "-"
	case r.size == 0:
		return bytesText(r.done)
	}
	return fmt.Sprintf("%s %3d %%", bar(r.done, r.size), parts(100, r.done, r.size))
}

func (r row) rateText() string {
	if r.rate <= 0 {
		return "-"
	}
	return bytesText(r.rate) + "/s"
}

func (r row) why() string {
	text := r.reason
	if r.message != "" {
		text = strings.TrimPrefix(text+": "+r.message, ": ")
	}
	switch {
	case text == "" && r.state == stateWaiting:
		text = cmp.Or(r.halted, "its turn comes when another node is done")
	case text == "" && r.state == statePending && len(r.others) > 0:
		text = "its turn comes when the node has pulled " + strings.Join(r.others, " or ")
	case text == "" && r.state == statePulling && r.silent:
		text = "the server has not answered yet"
	case text == "" && r.state == statePulling && r.begun:
		text = "it has begun, and tells how far it is within half a minute"
	case r.state == statePulling && r.resumed > 0:
		text = strings.TrimPrefix(text+"; resumed at "+bytesText(r.resumed), "; ")
	}
	if r.attempts > 1 {
		text = strings.TrimPrefix(fmt.Sprintf("%s; attempt %d", text, r.attempts), "; ")
	}
	return text
}

// bar draws done of whole; whole may be 0.
func bar(done, whole int64) string {
	filled := parts(barWidth, done, whole)
	return "[" + strings.Repeat("#", filled) + strings.Repeat(".", barWidth-filled) + "]"
}

// parts is how many of so many equal parts of the whole are done, from 0 to all of
// them whatever the numbers are; 0 of a whole that is not known. In floating point,
// since the product of a size and 100 need not be an int64.
func parts(all int, done, whole int64) int {
	if whole <= 0 {
		return 0
	}
	return int(float64(all) * min(max(0, float64(done)/float64(whole)), 1))
}

func bytesText(n int64) string { return humanize.IBytes(uint64(max(0, n))) }
