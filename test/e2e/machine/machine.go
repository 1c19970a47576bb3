// Package machine makes nodes out of namespaces: each has a process tree, mounts, network and host name of its own, a root folder
// that shows the programs of this machine read-only, and a disk (a folder, seen as /var) that survives its reboots. Its first
// process starts containerd, kubelet and kube-proxy at their usual paths. When that process dies the kernel ends everything else
// on the node, so that a power cut is one SIGKILL and nothing can be left behind.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

// Spec is what a node is made of.
type Spec struct {
	Name string
	// Dir holds the disk, the logs and what else belongs to the node on this machine.
	Dir string
	// Programs is a folder with kubelet and kube-proxy, seen on the node as /opt/kubernetes.
	Programs string
	// KubeletConfig and ProxyConfig are kubeconfig files of this machine.
	KubeletConfig, ProxyConfig string
	// Address is the node's, with the size of the network that all nodes are in.
	Address netip.Prefix
	// Pods is the network of the node's Pods, and PeerPods those of the other nodes, by their addresses.
	Pods     netip.Prefix
	PeerPods map[string]netip.Prefix
	// CgroupRoot is the parent of its Pods' cgroups. Kubelets that shared one would end each other's Pods.
	CgroupRoot string
}

// Machine is a node that is switched on or off.
type Machine struct {
	Spec

	network *Switch
	init    *process.Process
}

// InitCommand is the subcommand of this program that Init runs in.
const InitCommand = "machine-init"

const specFile = "spec.json"

// New makes a node that is switched off, with an empty disk.
func New(spec Spec, network *Switch) (*Machine, error) {
	m := &Machine{Spec: spec, network: network}
	for _, dir := range []string{m.Disk(), m.path(rootFolder), m.path("logs"), m.path("config")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("create the folders of %s: %w", spec.Name, err)
		}
	}
	if err := writeConfigs(spec, m.path("config")); err != nil {
		return nil, err
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("encode the specification of %s: %w", spec.Name, err)
	}
	if err := os.WriteFile(m.path(specFile), data, 0o600); err != nil {
		return nil, fmt.Errorf("write the specification of %s: %w", spec.Name, err)
	}
	return m, nil
}

// Disk is the folder of this machine that the node sees as /var.
func (m *Machine) Disk() string { return filepath.Join(m.Dir, diskFolder) }

// Logs are the files of the node's services.
func (m *Machine) Logs() []string {
	logs, _ := filepath.Glob(m.path("logs", "*.log")) // the pattern is well-formed
	return logs
}

func (m *Machine) path(parts ...string) string {
	return filepath.Join(append([]string{m.Dir}, parts...)...)
}

// PowerOn starts the node and plugs it into the switch; it does not wait until it is Ready.
func (m *Machine) PowerOn(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	m.init, err = process.Start(process.Command{
		Name: m.Name, Path: self, Args: []string{InitCommand, m.path(specFile)}, LogPath: m.path("logs", "init.log"),
		Namespaces: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
	})
	if err != nil {
		return err
	}
	return m.network.plug(ctx, m.Spec, m.init.PID())
}

// PowerOff is a power cut: everything on the node ends at once, and what lay in /run and /tmp is gone. What programs had written to
// the disk is there afterwards, also what they had not synced.
func (m *Machine) PowerOff(ctx context.Context) error {
	if m.init == nil {
		return nil
	}
	err := m.init.Kill()
	m.init = nil
	return errors.Join(err, m.network.unplug(ctx, m.Name))
}

// Running tells why the node is not up, if it is not.
func (m *Machine) Running() error {
	if m.init == nil {
		return fmt.Errorf("%s is switched off", m.Name)
	}
	select {
	case <-m.init.Done():
		return m.init.Err()
	default:
		return nil
	}
}

// Command is a command on the node, as from a root shell there.
func (m *Machine) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	target := "--target=" + strconv.Itoa(m.init.PID())
	enter := []string{target, "--pid", "--mount", "--net", "--uts", "--ipc", "--", name}
	return exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
}

// Shell is the start of a command line that runs the rest of it on the node.
func (m *Machine) Shell() string {
	return fmt.Sprintf("nsenter --target=%d --pid --mount --net --uts --ipc --", m.init.PID())
}

// LoadImage gives the node's containerd a container image out of a docker-archive, as pulling it from a registry would.
func (m *Machine) LoadImage(ctx context.Context, archive string) error {
	file, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("open a container image: %w", err)
	}
	defer file.Close()
	cmd := m.Command(ctx, "ctr", "--namespace=k8s.io", "images", "import", "-")
	cmd.Stdin = file
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("import %s on %s: %w: %s", filepath.Base(archive), m.Name, err, out)
	}
	return nil
}
