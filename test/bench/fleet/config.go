package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

const (
	fullNodes  = 1000
	fullImages = 20
	fullPull   = time.Minute
	fullIdle   = 10 * time.Minute
	// mostJoining is how many nodes join at once, in a fleet that is at least twice as large.
	mostJoining = 500
)

// config is what to measure.
type config struct {
	nodes, images int
	pull          time.Duration // how long a simulated pull takes
	idle          time.Duration // how long nothing changes
	repo          string        // the root of the repository
	plotter       string        // the program that draws
	out           string        // where the report goes; "" is nowhere
	keepLogs      string        // where logs go that are worth a look; "" is nowhere
}

func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	set := flag.NewFlagSet("bench-fleet", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.IntVar(&c.nodes, "nodes", fullNodes, "nodes of the fleet")
	set.IntVar(&c.images, "images", fullImages, "images that are applied together")
	set.DurationVar(&c.pull, "pull", fullPull, "how long a simulated pull takes")
	set.DurationVar(&c.idle, "idle", fullIdle, "how long nothing changes")
	set.StringVar(&c.repo, "repo", ".", "root of the repository")
	set.StringVar(&c.plotter, "plotter", "bin/bench-fleet-plot", "the program that draws the plot")
	set.StringVar(&c.out, "out", "", "directory of the report; docs/benchmarks when nothing is shortened, else nowhere")
	set.StringVar(&c.keepLogs, "logs", "", "directory to copy the logs of the manager and the agents to")
	if err := set.Parse(args); err != nil {
		return c, err
	}
	if c.nodes < 2 || c.images < 1 || c.pull <= 0 || c.idle <= 0 || set.NArg() > 0 {
		return c, errors.New("-nodes is at least 2, -images at least 1, -pull and -idle are more than 0, and there are no arguments but flags")
	}
	var err error
	if c.repo, err = filepath.Abs(c.repo); err != nil {
		return c, fmt.Errorf("-repo: %w", err)
	}
	if c.out == "" && c.full() {
		c.out = filepath.Join(c.repo, "docs", "benchmarks")
	}
	return c, nil
}

// full tells whether nothing was made smaller or shorter than what the bars were set for.
func (c config) full() bool {
	return c.nodes*c.images >= fullNodes*fullImages && c.pull >= fullPull && c.idle >= fullIdle
}

// name is that of the report's files.
func (c config) name() string {
	if c.nodes == fullNodes && c.images == fullImages {
		return "fleet"
	}
	return fmt.Sprintf("fleet-%dx%d", c.nodes, c.images)
}

// joining is how many nodes join at once.
func (c config) joining() int { return min(mostJoining, c.nodes/2) }
