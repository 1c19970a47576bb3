package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	fullSize   = 2 << 30 // bytes
	fullRounds = 7
)

// config is what to measure.
type config struct {
	size      int64
	rounds    int // that count; one more goes before them
	scenarios []scenario
	tools     []tool
	repo      string // the root of the repository
	bin       string // the programs that the bench builds
	dir       string // downloads go below it
	out       string // where the report goes; "" is nowhere
	all       bool   // nothing was left out
}

func parse(args []string, stderr io.Writer) (config, error) {
	set := flag.NewFlagSet("bench-pull", flag.ContinueOnError)
	set.SetOutput(stderr)
	size := set.String("size", "2GiB", "bytes of the object, with MiB or GiB")
	rounds := set.Int("rounds", fullRounds, "rounds that count; one more goes before them")
	names := set.String("scenarios", "", "such as S1,S3; all when empty")
	only := set.String("tools", "", "such as 'aria2,curl + openssl'; all when empty, and "+ours+" always")
	other := set.String("before", "", "another build of node-agent, to be measured beside this one")
	quick := set.Bool("quick", false, "one round with 64 MiB, to see whether everything runs")
	repo := set.String("repo", ".", "root of the repository")
	dir := set.String("dir", "/var/tmp", "a directory on the disk to download to")
	out := set.String("out", "", "directory of the report; docs/benchmarks when nothing is left out, else nowhere")
	if err := set.Parse(args); err != nil {
		return config{}, err
	}
	if *quick {
		*size, *rounds = "64MiB", 1
	}
	c := config{rounds: *rounds, dir: *dir, out: *out}
	var err error
	if c.repo, err = filepath.Abs(*repo); err != nil {
		return c, fmt.Errorf("-repo: %w", err)
	}
	c.bin = filepath.Join(c.repo, "bin", "bench")
	if c.size, err = parseSize(*size); err != nil {
		return c, err
	}
	if c.rounds < 1 || set.NArg() > 0 {
		return c, errors.New("-rounds is at least 1, and there are no arguments but flags")
	}
	if c.scenarios, err = choose("scenario", scenarios(), *names, func(s scenario) string { return s.name }); err != nil {
		return c, err
	}
	if c.tools, err = choose("tool", tools(c.bin), *only, func(t tool) string { return t.name }); err != nil {
		return c, err
	}
	if c.tools[0].name != ours {
		c.tools = slices.Insert(c.tools, 0, tools(c.bin)[0])
	}
	if *other != "" {
		if *other, err = filepath.Abs(*other); err != nil {
			return c, fmt.Errorf("-before: %w", err)
		}
		c.tools = append(c.tools, buildBefore(*other))
	}
	c.all = c.size >= fullSize && c.rounds >= fullRounds && len(c.scenarios) == len(scenarios()) && len(c.tools) == len(tools(""))
	if c.out == "" && c.all {
		c.out = filepath.Join(c.repo, "docs", "benchmarks")
	}
	return c, nil
}

// choose picks from all, in their order; "" picks all.
func choose[T any](what string, all []T, names string, name func(T) string) ([]T, error) {
	if names == "" {
		return all, nil
	}
	var chosen []T
	wanted := strings.Split(names, ",")
	for _, candidate := range all {
		if slices.Contains(wanted, name(candidate)) {
			chosen = append(chosen, candidate)
		}
	}
	if len(chosen) != len(wanted) {
		known := make([]string, len(all))
		for i, candidate := range all {
			known[i] = name(candidate)
		}
		return nil, fmt.Errorf("%q names an unknown %s, or one twice: there are %s", names, what, strings.Join(known, ","))
	}
	return chosen, nil
}

func parseSize(text string) (int64, error) {
	number, unit := text, int64(1)
	for suffix, factor := range map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			number, unit = rest, factor
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n*unit < 16<<20 || n > 64<<30 {
		return 0, fmt.Errorf("-size is %q: use 16MiB to 64GiB", text)
	}
	return n * unit, nil
}
