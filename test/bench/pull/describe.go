package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/proc"
)

// about is what a reader has to know beside the numbers.
type about struct {
	config  config
	machine string
	date    string
	load    float64 // of the last minute, before the bench
	tools   []string
}

// describe looks at the machine and asks the tools for their versions.
func describe(ctx context.Context, c config) (about, error) {
	a := about{config: c, date: time.Now().UTC().Format(time.DateOnly)}
	kernel, _, err := proc.Run(ctx, proc.Command{Args: []string{"uname", "-sr"}})
	if err != nil {
		return a, fmt.Errorf("describe the machine: %w", err)
	}
	hash := "no SHA instructions"
	if strings.Contains(lineOf("/proc/cpuinfo", "flags")+lineOf("/proc/cpuinfo", "Features")+" ", " sha_ni ") || runtime.GOARCH == "arm64" {
		hash = "SHA instructions"
	}
	a.machine = fmt.Sprintf("%s, %d cores, %s, %s memory, %s", lineOf("/proc/cpuinfo", "model name"), runtime.NumCPU(), hash,
		lineOf("/proc/meminfo", "MemTotal"), strings.TrimSpace(kernel))
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(text), &a.load)
	}
	for _, t := range c.tools {
		version := []string{"git", "-C", c.repo, "describe", "--always", "--dirty", "--exclude=*"}
		if t.version != nil {
			version = t.version
		} else if !t.publishes {
			version = []string{"go", "version"}
		}
		output, _, err := proc.Run(ctx, proc.Command{Args: version, Env: environment(c.bin, "")})
		if err != nil {
			return a, fmt.Errorf("ask for the version of %s: %w", t.name, err)
		}
		first, _, _ := strings.Cut(output, "\n")
		a.tools = append(a.tools, fmt.Sprintf("%s: %s (%s)", t.name, t.note, strings.TrimSpace(first)))
	}
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
