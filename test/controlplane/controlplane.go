// Package controlplane gives tests and the demo a real Kubernetes API server on loopback: etcd, kube-apiserver and kubectl, built
// once from the nested module test/kubernetes and cached in the user's cache folder. It needs neither root nor a container engine.
// Nothing else of Kubernetes runs unless Options.Nodes is set: no controllers, no garbage collector, no kubelet (package harness
// plays their part).
//
// Two environment variables of a person are honoured: KUBEBUILDER_ASSETS names a folder that holds the three programs already,
// and KUBECONFIG names an API server that runs already.
package controlplane

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"k8s.io/client-go/rest"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/scratch"
)

// Options are all optional.
type Options struct {
	// Output receives one line for each step that takes time; discarded when nil.
	Output io.Writer
	// Repository is the folder of the project's go.mod; found from the working folder upward when empty.
	Repository string
	// IgnoreEnvironment starts a control plane of our own even when KUBECONFIG names one.
	IgnoreEnvironment bool
	// Nodes asks for what kubelets need: the programs of nodes, kube-controller-manager and kube-scheduler running, and an API server
	// that listens on Address, too.
	Nodes bool
	// Address is where the nodes reach the API server; it must not be a loopback address. Only with Nodes.
	Address netip.Addr
	// Users get a token each, see ControlPlane.Tokens.
	Users []User
	// APIServerArgs are added to those of kube-apiserver; they mean nothing to an external one.
	APIServerArgs []string
}

// User is somebody whom the API server knows by a token.
type User struct {
	Name   string
	Groups []string
}

// ControlPlane is an API server that answers.
type ControlPlane struct {
	// Config and KubeconfigPath carry the rights of an administrator.
	Config         *rest.Config
	KubeconfigPath string
	// KubectlPath is a kubectl of about the same version.
	KubectlPath string
	// External is true when KUBECONFIG named the API server, which Stop then leaves alone.
	External bool
	// Programs are what runs here; empty for an external API server.
	Programs Programs
	// CAPath is the file of the authority that signed the API server's certificates; empty for an external API server.
	CAPath string
	// Tokens are those of Options.Users, by name.
	Tokens map[string]string

	folder *scratch.Dir

	dir       string
	nodesHost string     // the API server's URL at Options.Address
	nodes     netip.Addr // Options.Address
	identity  *identity
	flags     []string // of every API server, besides the usual ones
	etcd      *process.Process
	apiserver *process.Process
	// controllers are kube-controller-manager and kube-scheduler.
	controllers []*process.Process
}

// stopGrace bounds how long each of the two processes may take to end; it takes them 0.2 s when no client misbehaves.
const stopGrace = 5 * time.Second

// Start returns when the API server is ready, or an error with the end of the log of what failed. The context bounds the start
// only; who starts it must Stop it.
func Start(ctx context.Context, options Options) (*ControlPlane, error) {
	if options.Output == nil {
		options.Output = io.Discard
	}
	folder, err := scratch.New("controlplane")
	if err != nil {
		return nil, err
	}
	c := &ControlPlane{folder: folder, dir: folder.Path}
	if os.Getenv("KUBECONFIG") != "" && !options.IgnoreEnvironment {
		err = c.adopt(ctx, options, os.Getenv("KUBECONFIG"))
	} else {
		err = c.start(ctx, options)
	}
	if err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

func (c *ControlPlane) start(ctx context.Context, options Options) error {
	programs, err := FindPrograms(ctx, options)
	if err != nil {
		return err
	}
	c.Programs, c.KubectlPath, c.flags, c.nodes = programs, programs.Kubectl, options.APIServerArgs, options.Address
	if c.identity, err = newIdentity(c.dir, options); err != nil {
		return err
	}
	c.Tokens, c.CAPath = c.identity.tokens, c.identity.caPath
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	port, err := c.startAPIServer(ctx)
	if err != nil {
		return err
	}
	c.Config = c.configFor(port)
	c.KubeconfigPath = filepath.Join(c.dir, "admin.kubeconfig")
	if err := c.WriteKubeconfig(c.KubeconfigPath, "admin", c.identity.adminToken); err != nil {
		return err
	}
	if options.Nodes {
		c.nodesHost = "https://" + net.JoinHostPort(options.Address.String(), strconv.Itoa(port))
		return c.startControllers(c.identity)
	}
	return nil
}

func (c *ControlPlane) configFor(port int) *rest.Config {
	return &rest.Config{
		Host: "https://" + addressOf(port), BearerToken: c.identity.adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.identity.caPEM},
		// Loopback and a server of our own: client-side throttling would only make tests slow.
		QPS: -1,
	}
}

// Logs are the log files of the processes that Start started, by name.
func (c *ControlPlane) Logs() []string {
	logs, _ := filepath.Glob(filepath.Join(c.dir, "*.log")) // the pattern is well-formed
	return logs
}

// Stop ends the API server before etcd, because without etcd it hangs in its own shutdown, and removes their folder.
func (c *ControlPlane) Stop() error {
	var errs []error
	for _, p := range append(slices.Clone(c.controllers), c.apiserver, c.etcd) {
		if p != nil {
			errs = append(errs, p.Stop(stopGrace))
		}
	}
	return errors.Join(append(errs, c.folder.Remove())...)
}

// PIDs are the ids of the processes that Start started, none for an external API server.
func (c *ControlPlane) PIDs() []int {
	var pids []int
	for _, p := range append([]*process.Process{c.etcd, c.apiserver}, c.controllers...) {
		if p != nil {
			pids = append(pids, p.PID())
		}
	}
	return pids
}

// APIServerLog is the file of the API server's log, empty for an external one.
func (c *ControlPlane) APIServerLog() string {
	if c.apiserver == nil {
		return ""
	}
	return c.apiserver.LogPath()
}
