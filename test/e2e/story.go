package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/machine"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/origin"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/sandbox"
	"github.com/cloudimage-dev/cloudimage-operator/test/narrate"
	"github.com/cloudimage-dev/cloudimage-operator/test/observe"
)

const (
	gib = 1 << 30
	mib = 1 << 20

	namespace = "cloudimage-system"
	release   = "cloudimage"
	stepLimit = 4 * time.Minute
	waitFor   = "--timeout=3m"
)

// story is everything that is started, and what the steps tell each other.
type story struct {
	props
	out *narrate.Printer

	kubeconfig, path string
	// plane and machines are nil on a cluster that was there before.
	plane    *controlplane.ControlPlane
	machines []*machine.Machine
	nodes    []string
	origin   *origin.Server
	// prometheus is nil before its step.
	prometheus *observe.Server
	guest      warmImage
	// mayRemove: the cluster of KUBECONFIG had no operator, so what is there at the end is this program's.
	mayRemove bool
}

// step is one numbered part of the story.
type step struct {
	title string
	run   func(ctx context.Context) error
	// ownNodes marks what can only be done to nodes that this program made.
	ownNodes bool
}

func (s *story) steps() []step {
	return []step{
		{"Install the chart with Helm", s.install, false},
		{"Look at what the agents and managers may do on a node", s.lookAtRights, true},
		{"Scrape managers and agents with Prometheus, as the chart says", s.scrape, true},
		{"Apply a CloudImage: all nodes warm from nginx", s.warm, false},
		{"Boot a virtual machine from an overlay on the warm image", s.bootGuest, true},
		{"Schedule a Pod by the readiness label; it opens the image read-only", s.schedule, false},
		{"Use a stolen agent token against the other nodes", s.stealToken, false},
		{"Cut a node's power in mid-pull, and switch it on again", s.reboot, true},
		{"Drain a node, remove it, and add it again with its old disk", s.replaceNode, true},
		{"Upgrade the release with Helm in mid-pull", s.upgrade, false},
		{"Make an alert fire, and look at the dashboard", s.lookAtDashboard, true},
		{"Uninstall the release with Helm: the images stay", s.uninstall, false},
	}
}

// tellInSandbox is the part of the story that has nodes of its own.
func tellInSandbox(ctx context.Context, propsPath string) int {
	s := &story{out: narrate.NewPrinter(os.Stdout, 0)}
	data, err := os.ReadFile(propsPath)
	if err == nil {
		err = json.Unmarshal(data, &s.props)
	}
	if err == nil {
		err = sandbox.Enter()
	}
	if err != nil {
		s.out.Failure(err)
		return exitFailed
	}
	s.out = narrate.NewPrinter(os.Stdout, s.Step)
	return s.tell(ctx, append([]step{{"Start three nodes: kubelet, containerd and kube-proxy each, and the control plane", s.startCluster, true}}, s.steps()...))
}

func (s *story) tell(ctx context.Context, steps []step) int {
	var err error
	for _, step := range steps {
		s.out.Title(step.title)
		if step.ownNodes && s.external() {
			s.out.Note("left out: this needs nodes that the test made itself")
			continue
		}
		if err = s.run(ctx, step); err != nil {
			break
		}
	}
	interrupted := ctx.Err() != nil
	if err != nil && !interrupted {
		s.out.Failure(err)
		s.explain(context.WithoutCancel(ctx))
	}
	if os.Getenv("KEEP") == "1" && !interrupted {
		s.stay(ctx)
	}
	if cleanErr := s.cleanUp(context.WithoutCancel(ctx)); cleanErr != nil {
		s.out.Failure(fmt.Errorf("clean up: %w", cleanErr))
		err = errors.Join(err, cleanErr)
	}
	switch {
	case interrupted:
		return exitInterrupted
	case err != nil:
		return exitFailed
	}
	return 0
}

func (s *story) external() bool { return s.plane == nil && s.kubeconfig != "" }

func (s *story) run(ctx context.Context, step step) error {
	begin := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, stepLimit, fmt.Errorf("the step took longer than %s", stepLimit))
	defer cancel()
	if err := step.run(ctx); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = errors.Join(err, context.Cause(ctx))
		}
		return fmt.Errorf("step %d did not hold: %w", s.out.Step(), err)
	}
	s.out.Note("this step took " + narrate.Seconds(time.Since(begin)))
	return nil
}

// stay hands everything over to the person, until Ctrl-C.
func (s *story) stay(ctx context.Context) {
	s.out.Note("KEEP=1: everything runs until Ctrl-C; as root, in another terminal:")
	s.out.Line("nsenter --target=$(pgrep -f '" + storyCommand + " " + s.Dir + "' | head -n1) --pid --mount --net -- env PATH=" + s.path + " KUBECONFIG=" + s.kubeconfig + " bash")
	<-ctx.Done()
}

// cleanUp ends in order what the kernel would end anyway together with the sandbox. The API server goes before etcd: see ControlPlane.Stop.
func (s *story) cleanUp(ctx context.Context) error {
	var errs []error
	for _, one := range s.machines {
		errs = append(errs, one.PowerOff(ctx))
	}
	if s.plane != nil {
		errs = append(errs, s.plane.Stop())
	}
	if s.external() && s.mayRemove {
		errs = append(errs, s.leaveCluster(ctx))
	}
	if s.prometheus != nil {
		errs = append(errs, s.prometheus.Stop())
	}
	if s.origin != nil {
		errs = append(errs, s.origin.Stop())
	}
	return errors.Join(errs...)
}

// explain prints what a person would look at after a failure, before the clean-up takes it away.
func (s *story) explain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if s.kubeconfig == "" {
		return
	}
	for _, line := range []string{
		"kubectl get nodes,pods,daemonsets,deployments,jobs -A -o wide", "kubectl get cimg,nimg -o yaml",
		"kubectl get events -A --sort-by=.metadata.creationTimestamp | tail -n 60", "kubectl describe pods -n " + namespace,
	} {
		_, _ = s.show(ctx, line) // if that fails as well, what it prints says so
	}
	if s.external() {
		_, _ = s.show(ctx, "kubectl logs -n "+namespace+" -l app.kubernetes.io/name=cloudimage-operator --prefix --tail=40")
		return
	}
	var logs []string
	if s.plane != nil {
		logs = append(logs, s.plane.Logs()...)
	}
	for _, one := range s.machines {
		pods, _ := filepath.Glob(filepath.Join(one.Disk(), "log", "pods", "*", "*", "*.log"))
		logs = append(append(logs, one.Logs()...), pods...)
	}
	if s.origin != nil {
		logs = append(logs, s.origin.LogPath())
	}
	for _, log := range logs {
		s.out.Note("the end of " + log + ":")
		echo := s.out.Output()
		fmt.Fprintln(echo, process.Tail(log, 25))
	}
}
