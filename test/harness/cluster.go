// Package harness runs the real manager and real agents against a control plane without kubelets. It plays what is missing there:
// it creates the Node and Pod objects, gives each agent the token that a kubelet would mount, starts programs that died, mirrors
// their readiness into their Pods, and collects the garbage of removed Nodes.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"k8s.io/client-go/kubernetes"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

const (
	// Namespace is the operator's.
	Namespace = "cloudimage-system"
	// SourceNamespace holds the Secrets and ConfigMaps that sources name.
	SourceNamespace = "cloudimage-sources"
)

// Options of a cluster; all but Repository are needed.
type Options struct {
	ControlPlane *controlplane.ControlPlane
	Binaries     Binaries
	// Dir receives the stores, kubeconfigs and logs.
	Dir string
	// Repository is the folder of the project's go.mod; found from the working folder upward when empty.
	Repository string
}

// Cluster is an API server with the operator's manifests, a manager and nodes.
type Cluster struct {
	// Client has the rights of an administrator.
	Client kubernetes.Interface

	options Options
	mu      sync.Mutex
	manager *Program
	nodes   []*Node
}

// New installs CustomResourceDefinitions and RBAC as a person would.
func New(ctx context.Context, options Options) (*Cluster, error) {
	repository, err := controlplane.Repository(options.Repository)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(options.ControlPlane.Config)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	c := &Cluster{Client: client, options: options}
	for _, args := range [][]string{
		{"apply", "--server-side", "-k", filepath.Join(repository, "config", "crd")},
		{"wait", "--for=condition=Established", "--timeout=30s",
			"crd/cloudimages.prefetch.cloudimage.dev", "crd/nodeimagecaches.prefetch.cloudimage.dev"},
		{"apply", "--server-side", "-k", filepath.Join(repository, "config", "rbac")},
	} {
		if _, err := c.Kubectl(ctx, nil, args...); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Kubectl runs the real kubectl as an administrator and returns what it printed; an error carries that too.
func (c *Cluster) Kubectl(ctx context.Context, stdin io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.options.ControlPlane.KubectlPath, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.options.ControlPlane.KubeconfigPath)
	var output bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &output, &output
	if err := process.Run(cmd); err != nil {
		return output.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(output.Bytes()))
	}
	return output.String(), nil
}

// StartManager starts the manager with the rights of its ServiceAccount.
func (c *Cluster) StartManager(ctx context.Context) (*Program, error) {
	kubeconfig := filepath.Join(c.options.Dir, "manager.kubeconfig")
	err := c.options.ControlPlane.WriteServiceAccountKubeconfig(ctx, kubeconfig, Namespace, "cloudimage-manager", nil)
	if err != nil {
		return nil, err
	}
	manager := &Program{
		Name: "manager", LogPath: filepath.Join(c.options.Dir, "logs", "manager.log"),
		path: c.options.Binaries.Manager, client: &http.Client{Transport: &http.Transport{}},
		args: func(metrics, health string) []string {
			return []string{
				"--kubeconfig", kubeconfig, "--namespace", Namespace, "--leader-elect=true",
				"--metrics-bind-address", metrics, "--health-probe-bind-address", health,
			}
		},
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.manager != nil {
		return nil, errors.New("start the manager: there is one already")
	}
	c.manager = manager
	if err := manager.Start(); err != nil {
		return nil, err
	}
	return manager, nil
}

// Manager is nil before StartManager.
func (c *Cluster) Manager() *Program {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.manager
}

// Nodes are those that were added and not removed.
func (c *Cluster) Nodes() []*Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

// Stop ends every program, agents and manager at once. The Nodes are removed only from an API server that stays behind.
func (c *Cluster) Stop(ctx context.Context) error {
	c.mu.Lock()
	nodes, manager := c.nodes, c.manager
	c.mu.Unlock()
	errs := make(chan error)
	for _, node := range nodes {
		go func() { errs <- node.Stop() }()
	}
	var all []error
	if manager != nil {
		all = append(all, manager.Stop())
	}
	for range nodes {
		all = append(all, <-errs)
	}
	if c.options.ControlPlane.External {
		for _, node := range nodes {
			all = append(all, c.RemoveNode(ctx, node.Name))
		}
	}
	return errors.Join(all...)
}
