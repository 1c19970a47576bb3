// Command e2e tells how the project is shipped and used, on real Kubernetes nodes: installed with Helm, warmed from nginx, disturbed in
// every way that nodes are, and removed. It exits 0 only if every step held and nothing was left behind.
//
// It makes three nodes out of namespaces of this machine (package machine), which needs root; what it needs beyond that it installs
// from Debian's packages. With KUBECONFIG it uses that cluster instead, see external.go, and leaves out what needs nodes of its own.
// KEEP=1 leaves everything running after the story, until Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/machine"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/sandbox"
	"github.com/cloudimage-dev/cloudimage-operator/test/narrate"
)

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130

	// storyCommand is the subcommand that runs in the sandbox.
	storyCommand = "story"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// Where the output goes into a pipe, Ctrl-C may end its reader first. That must not end the clean-up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	code := dispatch(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func dispatch(ctx context.Context, args []string) int {
	switch {
	case len(args) == 2 && args[0] == machine.InitCommand:
		fmt.Fprintln(os.Stderr, "the node could not be set up:", machine.Init(args[1]))
		return exitFailed
	case len(args) == 2 && args[0] == storyCommand:
		return tellInSandbox(ctx, args[1])
	case len(args) == 0 && os.Getenv("KUBECONFIG") != "":
		return tellOnCluster(ctx)
	case len(args) == 0:
		return prepareAndTell(ctx)
	default:
		fmt.Fprintln(os.Stderr, "usage: e2e, without arguments; see CONTRIBUTING.md for the environment variables")
		return exitUsage
	}
}

// prepareAndTell is the part outside the sandbox: it fetches and builds, starts the story, and looks at what that left.
func prepareAndTell(ctx context.Context) int {
	out, start := narrate.NewPrinter(os.Stdout, 0), time.Now()
	if os.Geteuid() != 0 {
		out.Failure(errNotRoot)
		return exitUsage
	}
	box, err := sandbox.New()
	if err != nil {
		out.Failure(err)
		return exitFailed
	}
	code := exitFailed
	props, err := prepare(ctx, out, box)
	if err == nil {
		code, err = box.Run(ctx, storyCommand, props)
	}
	if err != nil && ctx.Err() == nil {
		out.Failure(err)
	}
	if err := leaveNothing(out, box); err != nil {
		out.Failure(err)
		code = exitFailed
	}
	switch {
	case ctx.Err() != nil && os.Getenv("KEEP") != "1":
		return exitInterrupted
	case code != 0:
		return code
	}
	out.Done(fmt.Sprintf("every step held (%s)", narrate.Seconds(time.Since(start))))
	return 0
}

var errNotRoot = errors.New(`this makes nodes with network namespaces, mounts and cgroups, so it has to be run as root:
sudo make e2e        three nodes on this machine; on Debian it installs the packages it needs
KUBECONFIG=… make e2e    on a cluster of yours that has no such operator, with fewer steps: see CONTRIBUTING.md`)

// leaveNothing removes the sandbox and searches twice, because what is on its way out the first time must be gone the second.
func leaveNothing(out *narrate.Printer, box *sandbox.Sandbox) error {
	begin := time.Now()
	if err := box.Remove(); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	for range 2 {
		found, err := box.Leftovers()
		if err != nil {
			return fmt.Errorf("look for what was left behind: %w", err)
		}
		if len(found) > 0 {
			return fmt.Errorf("left behind: %q", found)
		}
	}
	out.Line("")
	out.Held(time.Since(begin), "nothing was left behind: no process, mount, network interface or namespace, cgroup or file; looked twice")
	return nil
}
