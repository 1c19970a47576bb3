package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/machine"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/origin"
)

const (
	nodeCount  = 3
	proxyUser  = "system:kube-proxy"
	nodesGroup = "system:nodes"
	nodeUser   = "system:node:"
	originPort = 80
)

// The switch's network is 172.31.0.0/24: .1 is this side, .11 and on are the nodes.
func hereAddress() netip.Prefix { return netip.MustParsePrefix("172.31.0.1/24") }

func nodeName(index int) string { return fmt.Sprintf("node%d", index+1) }

func nodeAddress(index int) netip.Addr { return netip.AddrFrom4([4]byte{172, 31, 0, byte(11 + index)}) }

func podNetwork(index int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(1 + index), 0}), 24)
}

func (s *story) startCluster(ctx context.Context) error {
	begin := time.Now()
	network, err := machine.NewSwitch(ctx, hereAddress())
	if err != nil {
		return err
	}
	if err := s.startPlane(ctx); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "the API server answers at %s", hereAddress().Addr())
	if s.origin, err = origin.Start(ctx, filepath.Join(s.Dir, "nginx"), netip.AddrPortFrom(hereAddress().Addr(), originPort)); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range nodeCount {
		one, err := s.newMachine(i, network)
		if err != nil {
			return err
		}
		s.machines, s.nodes = append(s.machines, one), append(s.nodes, one.Name)
		if err := s.powerOn(ctx, one); err != nil {
			return err
		}
		group.Go(func() error { return s.loadImages(groupCtx, one) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.waitNodes(ctx); err != nil {
		return err
	}
	if _, err := s.show(ctx, "kubectl get nodes -o wide"); err != nil {
		return err
	}
	s.out.Held(time.Since(begin), "three nodes are Ready")
	return nil
}

func (s *story) startPlane(ctx context.Context) error {
	users := []controlplane.User{{Name: proxyUser}}
	for i := range nodeCount {
		users = append(users, controlplane.User{Name: nodeUser + nodeName(i), Groups: []string{nodesGroup}})
	}
	plane, err := controlplane.Start(ctx, controlplane.Options{
		Repository: s.Repository, Output: s.out.Output(), IgnoreEnvironment: true, Nodes: true, Address: hereAddress().Addr(), Users: users,
	})
	if err != nil {
		return err
	}
	s.plane, s.kubeconfig = plane, plane.KubeconfigPath
	s.path = strings.Join([]string{filepath.Join(s.Dir, "bin"), toolPath(s.Repository, ""), filepath.Dir(plane.KubectlPath), os.Getenv("PATH")}, string(os.PathListSeparator))
	return plane.WriteNodeKubeconfig(filepath.Join(s.Dir, "kube-proxy.kubeconfig"), proxyUser)
}

func (s *story) newMachine(index int, network *machine.Switch) (*machine.Machine, error) {
	name := nodeName(index)
	spec := machine.Spec{
		Name: name, Dir: filepath.Join(s.Dir, "nodes", name), Programs: filepath.Dir(s.plane.Programs.Kubelet),
		KubeletConfig: filepath.Join(s.Dir, name+".kubeconfig"), ProxyConfig: filepath.Join(s.Dir, "kube-proxy.kubeconfig"),
		Address: netip.PrefixFrom(nodeAddress(index), hereAddress().Bits()), Pods: podNetwork(index), PeerPods: map[string]netip.Prefix{},
		CgroupRoot: s.Cgroup + "/" + name,
	}
	for peer := range nodeCount {
		if peer != index {
			spec.PeerPods[nodeAddress(peer).String()] = podNetwork(peer)
		}
	}
	if err := s.plane.WriteNodeKubeconfig(spec.KubeletConfig, nodeUser+name); err != nil {
		return nil, err
	}
	if err := machine.MakeCgroup(spec.CgroupRoot); err != nil {
		return nil, err
	}
	return machine.New(spec, network)
}

// powerOn also makes `on NODE COMMAND…` work in the story's command lines.
func (s *story) powerOn(ctx context.Context, one *machine.Machine) error {
	if err := one.PowerOn(ctx); err != nil {
		return err
	}
	script := "#!/bin/sh\n# The first argument is a node; the rest runs there.\nnode=$1; shift\n. " + filepath.Join(s.Dir, "nodes") + "/$node/enter\n"
	enter := "exec " + one.Shell() + ` "$@"` + "\n"
	if err := os.MkdirAll(filepath.Join(s.Dir, "bin"), 0o755); err != nil {
		return fmt.Errorf("make a folder for scripts: %w", err)
	}
	for path, content := range map[string]string{filepath.Join(s.Dir, "bin", "on"): script, filepath.Join(one.Dir, "enter"): enter} {
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			return fmt.Errorf("write the script that enters %s: %w", one.Name, err)
		}
	}
	return nil
}

// loadImages waits for the node's containerd.
func (s *story) loadImages(ctx context.Context, one *machine.Machine) error {
	err := s.until(ctx, func() error {
		if err := one.Running(); err != nil {
			return err
		}
		out, err := one.Command(ctx, "ctr", "version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("wait for containerd on %s: %w: %s", one.Name, err, out)
		}
		return nil
	})
	for _, archive := range s.Archives {
		if err == nil {
			err = one.LoadImage(ctx, archive)
		}
	}
	return err
}

// waitNodes waits until every Node is Ready and has no taint that keeps Pods away.
func (s *story) waitNodes(ctx context.Context) error {
	if err := s.until(ctx, func() error {
		_, err := s.ask(ctx, "kubectl get node "+strings.Join(s.nodes, " "))
		return err
	}); err != nil {
		return err
	}
	_, err := s.ask(ctx, "kubectl wait --for=condition=Ready node "+strings.Join(s.nodes, " ")+" "+waitFor)
	return err
}
