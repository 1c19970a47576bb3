package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
)

// about is what a reader has to know beside the numbers.
type about struct {
	machine  string
	date     string
	load     float64 // of the last minute, before the bench
	versions []string
}

// describe looks at the machine and asks the programs for their versions.
func describe(ctx context.Context, c config, progress io.Writer) (about, error) {
	a := about{date: time.Now().UTC().Format(time.DateOnly)}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &a.load)
	}
	programs, err := controlplane.FindPrograms(ctx, controlplane.Options{Repository: c.repo, Output: progress})
	if err != nil {
		return a, err
	}
	var answers []string
	for _, args := range [][]string{
		{"uname", "-sr"}, {"git", "-C", c.repo, "describe", "--always", "--dirty", "--exclude=*"},
		{programs.KubeAPIServer, "--version"}, {programs.Etcd, "--version"},
	} {
		output, err := exec.CommandContext(ctx, args[0], args[1:]...).Output()
		if err != nil {
			return a, fmt.Errorf("ask %s for its version: %w", args[0], err)
		}
		first, _, _ := strings.Cut(string(output), "\n")
		answers = append(answers, strings.TrimSpace(first))
	}
	a.machine = fmt.Sprintf("%s, %d cores, %s memory, %s", lineOf("/proc/cpuinfo", "model name"), runtime.NumCPU(), lineOf("/proc/meminfo", "MemTotal"), answers[0])
	a.versions = []string{"manager and agents: " + answers[1], "API server: " + answers[2], answers[3], runtime.Version()}
	return a, nil
}

// lineOf returns what follows a name in a file of /proc, "" when it is not there.
func lineOf(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, "\t :"))
		}
	}
	return ""
}
