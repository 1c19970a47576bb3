package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/scratch"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/debian"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/guest"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/origin"
	"github.com/cloudimage-dev/cloudimage-operator/test/narrate"
)

// Environment variables for a cluster that was there before.
const (
	// originEnv is an address of this machine that the nodes reach, with a port for nginx.
	originEnv = "ORIGIN"
	// helmArgsEnv are further arguments of `helm install`, for example --set image.registry=….
	helmArgsEnv = "HELM_ARGS"
	// shellEnv names an image with sh, sha256sum and touch that the nodes can pull.
	shellEnv = "SHELL_IMAGE"
)

var errExternal = fmt.Errorf(`KUBECONFIG names a cluster, whose nodes have to reach two things of yours:
%s=ADDRESS:PORT   an address of this machine, where nginx is to serve the images from
%s='--set image.registry=…'   where the nodes pull the images of tags %s and %s from (test/tools/release builds them)
Optional: %s, an image with sh and sha256sum (default busybox:stable)`, originEnv, helmArgsEnv, firstVersion, nextVersion, shellEnv)

// tellOnCluster tells the steps that need no nodes of their own on the cluster of KUBECONFIG.
func tellOnCluster(ctx context.Context) int {
	out := narrate.NewPrinter(os.Stdout, 0)
	address, err := netip.ParseAddrPort(os.Getenv(originEnv))
	if err != nil || os.Getenv(helmArgsEnv) == "" {
		out.Failure(errExternal)
		return exitUsage
	}
	folder, err := scratch.New("e2e-cluster")
	if err != nil {
		out.Failure(err)
		return exitFailed
	}
	s := &story{out: out, kubeconfig: os.Getenv("KUBECONFIG")}
	s.Dir = folder.Path
	code := exitFailed
	if err = s.meetCluster(ctx, address); err != nil {
		out.Failure(errors.Join(err, s.cleanUp(context.WithoutCancel(ctx))))
	} else {
		code = s.tell(ctx, s.steps())
	}
	if err := folder.Remove(); err != nil {
		out.Failure(err)
		return exitFailed
	}
	if code == 0 {
		out.Done("every step that such a cluster allows held")
	}
	return code
}

func (s *story) meetCluster(ctx context.Context, address netip.AddrPort) error {
	s.out.Title("Look at the cluster of KUBECONFIG, and start nginx here")
	if missing := debian.Missing(needs()[9:]); len(missing) > 0 {
		return fmt.Errorf("these programs are needed here; Debian's packages for them are: %s", strings.Join(missing, " "))
	}
	var err error
	if s.Repository, err = controlplane.Repository(""); err != nil {
		return err
	}
	programs, err := controlplane.FindPrograms(ctx, controlplane.Options{Repository: s.Repository, Output: s.out.Output()})
	if err != nil {
		return err
	}
	s.path = strings.Join([]string{toolPath(s.Repository, ""), filepath.Dir(programs.Kubectl), os.Getenv("PATH")}, string(os.PathListSeparator))
	if _, err := getHelm(ctx, s.Repository); err != nil {
		return err
	}
	there, err := s.ask(ctx, fmt.Sprintf("kubectl get --ignore-not-found --output=name crd/cloudimages.prefetch.cloudimage.dev "+
		"crd/nodeimagecaches.prefetch.cloudimage.dev && kubectl get --ignore-not-found --output=name namespace/%s namespace/cloudimage-sources", namespace))
	if err != nil {
		return err
	}
	if there = strings.Join(strings.Fields(there), ", "); there != "" {
		return fmt.Errorf("the cluster has %s already; the story installs the operator and deletes all of it at its end", there)
	}
	s.mayRemove = true
	nodes, err := s.show(ctx, "kubectl get nodes -o name")
	if err != nil {
		return err
	}
	for node := range strings.Lines(nodes) {
		s.nodes = append(s.nodes, strings.TrimPrefix(strings.TrimSpace(node), "node/"))
	}
	if len(s.nodes) < 2 {
		return fmt.Errorf("the cluster has %d nodes; the story needs two", len(s.nodes))
	}
	s.Guest, s.Greeting = filepath.Join(s.Dir, "guest.qcow2"), fmt.Sprintf("hello-%06d", rand.IntN(1e6)) //nolint:gosec // no secret
	if err := guest.MakeDisk(ctx, s.Dir, toolPath(s.Repository, "kernel"), s.Guest, s.Greeting); err != nil {
		return err
	}
	s.origin, err = origin.Start(ctx, filepath.Join(s.Dir, "nginx"), address)
	return err
}

// busybox is an image with a shell.
func (s *story) busybox() string {
	if image := os.Getenv(shellEnv); s.external() {
		if image == "" {
			image = "busybox:stable"
		}
		return image
	}
	return busyboxImage
}

// leaveCluster removes what the story installed, also when it ended in the middle.
func (s *story) leaveCluster(ctx context.Context) error {
	_, err := s.ask(ctx, fmt.Sprintf("helm uninstall %s --namespace %s --ignore-not-found --wait --timeout 60s; "+
		"kubectl delete pod needs-the-image --ignore-not-found; "+
		"kubectl delete --ignore-not-found crd cloudimages.prefetch.cloudimage.dev nodeimagecaches.prefetch.cloudimage.dev; "+
		"kubectl delete --ignore-not-found namespace %[2]s cloudimage-sources", release, namespace))
	return err
}
