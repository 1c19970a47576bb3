// Command demo tells the main story of the project with real parts: a real Kubernetes API server, the real manager and agents, the
// real kubectl, and an origin with a disk image of 1 GiB. It exits 0 only if every step held, and leaves nothing behind.
//
// Environment: NODES is the number of nodes (default 3); KEEP=1 leaves everything running after the story, until Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/narrate"
)

const exitInterrupted = 130

func main() { os.Exit(realMain()) }

func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Where the output goes into a pipe, Ctrl-C may end its reader first. That must not end the clean-up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	out := narrate.NewPrinter(os.Stdout, 0)
	nodes, err := nodesFromEnvironment()
	if err != nil {
		out.Failure(err)
		return 2
	}
	s := &story{out: out, nodes: nodes, keep: os.Getenv("KEEP") == "1"}
	start := time.Now()
	err = s.tell(ctx)
	interrupted := ctx.Err() != nil
	stop() // a second Ctrl-C ends the clean-up too; the children die with this process
	switch {
	case interrupted && s.told:
		out.Note("ending everything")
	case interrupted:
		out.Note("interrupted: cleaning up")
	case err != nil:
		out.Failure(err)
		s.explain(context.WithoutCancel(ctx))
	}
	if cleanErr := s.cleanUp(context.WithoutCancel(ctx)); cleanErr != nil {
		out.Failure(fmt.Errorf("clean up: %w", cleanErr))
		err = errors.Join(err, cleanErr)
	}
	switch {
	case interrupted && !s.told:
		return exitInterrupted
	case err != nil:
		return 1
	default:
		out.Done(fmt.Sprintf("every step held; nothing of it runs or lies on the disk any more (%s)", narrate.Seconds(time.Since(start))))
		return 0
	}
}

// maxNodes keeps a slip of the finger from filling the disk.
const maxNodes = 50

func nodesFromEnvironment() (int, error) {
	text := os.Getenv("NODES")
	if text == "" {
		return 3, nil
	}
	nodes, err := strconv.Atoi(text)
	if err != nil || nodes < 1 || nodes > maxNodes {
		return 0, fmt.Errorf("NODES must be a number from 1 to %d, not %q", maxNodes, text)
	}
	return nodes, nil
}
