// Command node-agent warms one node: it pulls the images that the node is
// assigned, verifies them on disk and reports. Its subcommand pull does the same
// for one URL, without Kubernetes.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	// Roots for machines and container images that have none; a system's own go first.
	_ "golang.org/x/crypto/x509roots/fallback"
)

// version is set by the build.
var version = "dev"

const usage = `node-agent pre-warms virtual-machine images on a node.

Usage:
  node-agent run  [flags]       follow the orders for this node; what the DaemonSet runs
  node-agent pull [flags] URL   pull one image into a store, without Kubernetes
  node-agent prepare [flags]    give the store to the agent's user; what its init container runs
  node-agent version            print the version

Run 'node-agent COMMAND --help' for the flags of a command.
`

const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// dispatch runs a subcommand and returns the exit code.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	command := ""
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	switch command {
	case "run":
		return runAgent(ctx, args, stderr)
	case "pull":
		return runPull(ctx, args, stdout, stderr)
	case "prepare":
		return runPrepare(args, stderr)
	case "version":
		fmt.Fprintln(stdout, version)
		return exitOK
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return exitOK
	case "":
	default:
		fmt.Fprintf(stderr, "node-agent: unknown command %q\n\n", command)
	}
	fmt.Fprint(stderr, usage)
	return exitUsage
}
