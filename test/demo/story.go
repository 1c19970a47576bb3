package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/scratch"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/narrate"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

const (
	// startLimit has room for the build of Kubernetes, on the first run ever.
	startLimit = 30 * time.Minute
	stepLimit  = 2 * time.Minute
	// moreNodes is how much longer a step may take for each node.
	moreNodes = 20 * time.Second
)

// story is everything that is started, and what the steps tell each other.
type story struct {
	out   *narrate.Printer
	nodes int
	keep  bool
	told  bool // to the end, so that an interrupt afterwards is what was asked for

	repository string
	folder     *scratch.Dir
	dir        string // of folder
	plane      *controlplane.ControlPlane
	cluster    *harness.Cluster
	origin     *origin.Server
	image      imageFile
}

// step is one numbered part of the story.
type step struct {
	title string
	limit time.Duration
	run   func(ctx context.Context) error
}

func (s *story) tell(ctx context.Context) error {
	limit := stepLimit + time.Duration(s.nodes)*moreNodes
	steps := []step{
		{fmt.Sprintf("Start a Kubernetes API server, the manager, %d nodes with their agents, and an HTTP server with a disk image", s.nodes),
			startLimit, s.start},
		{"Apply a CloudImage and wait until every node holds it", limit, s.warm},
		{"Look at what the API says", limit, s.look},
		{"Recompute the digest of every node's file with an independent tool", limit, s.verify},
		{"Apply a second CloudImage with the same digest: it costs no byte", limit, s.copy},
		{"Apply a CloudImage with a wrong digest: one node finds out, no other is touched", limit, s.wrong},
	}
	if s.keep {
		steps = append(steps, step{"KEEP=1: no further node joins, and nothing is deleted", 0, s.stay})
	} else {
		steps = append(steps,
			step{"Let another node join: it warms by itself", limit, s.join},
			step{"Delete the CloudImages: no blob is left on any node", limit, s.remove},
		)
	}
	for _, step := range steps {
		s.out.Title(step.title)
		if err := s.run(ctx, step); err != nil {
			return err
		}
	}
	s.told = true
	return nil
}

func (s *story) run(ctx context.Context, step step) error {
	if step.limit > 0 {
		limited, cancel := context.WithTimeoutCause(ctx, step.limit, fmt.Errorf("the step took longer than %s", step.limit))
		defer cancel()
		ctx = limited
	}
	if err := step.run(ctx); err != nil {
		return fmt.Errorf("step %d did not hold: %w", s.out.Step(), errors.Join(err, deadline(ctx)))
	}
	return nil
}

func deadline(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return nil
}

// explain prints what a person would look at after a failure, before the clean-up takes it away.
func (s *story) explain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if s.plane != nil {
		for _, line := range []string{"kubectl get cimg,nimg -o yaml", "kubectl get nodes,pods -A", "kubectl get events -A"} {
			// If that fails as well, what it prints says so.
			_, _ = s.show(ctx, line)
		}
	}
	if s.cluster == nil {
		return
	}
	var logs []string
	if manager := s.cluster.Manager(); manager != nil {
		logs = append(logs, manager.LogPath)
	}
	for _, node := range s.cluster.Nodes() {
		logs = append(logs, node.LogPath)
	}
	for _, log := range logs {
		s.out.Note("the end of " + filepath.Base(log) + ":")
		echo := s.out.Output()
		fmt.Fprintln(echo, process.Tail(log, 30))
	}
}

// cleanUp ends everything in the order in which it depends on each other.
func (s *story) cleanUp(ctx context.Context) error {
	var errs []error
	if s.cluster != nil {
		errs = append(errs, s.cluster.Stop(ctx))
	}
	if s.plane != nil {
		errs = append(errs, s.plane.Stop())
	}
	if s.origin != nil {
		errs = append(errs, s.origin.Close())
	}
	if s.folder != nil {
		errs = append(errs, s.folder.Remove())
	}
	return errors.Join(errs...)
}

func (s *story) path() string {
	return filepath.Dir(s.plane.KubectlPath) + string(os.PathListSeparator) + os.Getenv("PATH")
}
