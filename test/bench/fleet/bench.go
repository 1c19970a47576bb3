package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/bench/fleet/audit"
	"github.com/cloudimage-dev/cloudimage-operator/test/bench/fleet/hollow"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/scratch"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
)

// joiners is how many nodes are created at the same time where it is not measured.
const joiners = 32

// bench is a control plane, the manager and the fleet.
type bench struct {
	config   config
	progress io.Writer
	folder   *scratch.Dir
	fleetLog *os.File
	log      *audit.Log
	plane    *controlplane.ControlPlane
	cluster  *harness.Cluster
	client   client.Client
	machines *hollow.Machines
	board    *hollow.Board
	fleet    *hollow.Fleet
	sampler  *sampler

	// life is that of the agents.
	life    context.Context //nolint:containedctx // the agents outlive the call that starts them
	endLife context.CancelFunc

	writes []audit.Write // all of them
}

// newBench starts everything but the fleet. After an error what was started still has to be closed.
func newBench(ctx context.Context, c config, progress io.Writer) (*bench, error) {
	b := &bench{config: c, progress: progress, board: hollow.NewBoard(time.Now)}
	b.life, b.endLife = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	if b.folder, err = scratch.New("fleet"); err != nil {
		return b, err
	}
	if err := b.startLog(); err != nil {
		return b, err
	}
	var flags []string
	if b.log, flags, err = audit.Prepare(b.folder.Path); err != nil {
		return b, err
	}
	b.plane, err = controlplane.Start(ctx, controlplane.Options{
		Output: progress, Repository: c.repo, IgnoreEnvironment: true, APIServerArgs: flags,
	})
	if err != nil {
		return b, err
	}
	binaries, err := harness.Build(ctx, harness.BuildOptions{Repository: c.repo, Dir: b.folder.Path, Output: progress})
	if err != nil {
		return b, err
	}
	b.cluster, err = harness.New(ctx, harness.Options{ControlPlane: b.plane, Binaries: binaries, Dir: b.folder.Path, Repository: c.repo})
	if err != nil {
		return b, err
	}
	manager, err := b.cluster.StartManager(ctx)
	if err != nil {
		return b, err
	}
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := manager.WaitReady(starting); err != nil {
		return b, err
	}
	err = b.setUpFleet(manager)
	return b, err
}

// startLog sends what the agents complain about to a file: thousands of them would flood a terminal.
func (b *bench) startLog() error {
	file, err := os.Create(filepath.Join(b.folder.Path, "fleet.log"))
	if err != nil {
		return fmt.Errorf("create the agents' log: %w", err)
	}
	b.fleetLog = file
	logger := logr.FromSlogHandler(slog.NewTextHandler(file, &slog.HandlerOptions{Level: slog.LevelWarn}))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)
	return nil
}

func (b *bench) setUpFleet(manager *harness.Program) error {
	scheme := runtime.NewScheme()
	err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
	if err != nil {
		return fmt.Errorf("build the scheme: %w", err)
	}
	if b.client, err = client.New(b.plane.Config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	b.machines = &hollow.Machines{
		Client: b.cluster.Client, Namespace: harness.Namespace, Account: "cloudimage-agent",
		NodeLabels: map[string]string{controlplane.NodeLabel: "true"},
	}
	b.fleet = &hollow.Fleet{
		Config: b.plane.Config, Scheme: scheme, PullTakes: b.config.pull, Board: b.board, Traffic: &hollow.Traffic{}, Log: ctrl.Log,
	}
	pids := b.plane.PIDs()
	if len(pids) != 2 {
		return fmt.Errorf("find the processes of the control plane: there are %d", len(pids))
	}
	b.sampler = startSampler(map[string]func() int{
		"manager": manager.PID, "etcd": func() int { return pids[0] }, "API server": func() int { return pids[1] }, "agents": os.Getpid,
	})
	return nil
}

// close stops what was started, in order.
func (b *bench) close(ctx context.Context) (err error) {
	b.endLife()
	if b.fleet != nil {
		err = b.fleet.Wait()
	}
	if b.sampler != nil {
		b.sampler.close()
	}
	if b.cluster != nil {
		err = errors.Join(err, b.cluster.Stop(ctx))
	}
	if b.plane != nil {
		err = errors.Join(err, b.plane.Stop())
	}
	if b.config.keepLogs != "" && b.folder != nil {
		err = errors.Join(err, keepLogs(b.folder.Path, b.config.keepLogs))
	}
	if b.log != nil {
		err = errors.Join(err, b.log.Close())
	}
	if b.fleetLog != nil {
		err = errors.Join(err, b.fleetLog.Close())
	}
	if b.folder != nil {
		err = errors.Join(err, b.folder.Remove())
	}
	return err
}

func keepLogs(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return fmt.Errorf("keep the logs: %w", err)
	}
	for _, name := range []string{"fleet.log", filepath.Join("logs", "manager.log"), "audit.log"} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(name)), data, 0o644)
		}
		if err != nil {
			return fmt.Errorf("keep the logs: %w", err)
		}
	}
	return nil
}

// explain is what a person looks at first after a failure.
func (b *bench) explain() string {
	return fmt.Sprintf("The end of the manager's log:\n%s\nThe end of the agents' log:\n%s",
		process.Tail(b.cluster.Manager().LogPath, 10), process.Tail(b.fleetLog.Name(), 10))
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// addNodes creates Nodes without agents.
func (b *bench) addNodes(ctx context.Context, names []string) error {
	return forEach(ctx, joiners, names, b.machines.AddNode)
}

// startAgent creates the Pod of an agent, starts the agent with the Pod's token, and says that the Pod is Ready. It is not revealed yet.
func (b *bench) startAgent(ctx context.Context, node string) error {
	token, err := b.machines.AddPod(ctx, node)
	if err != nil {
		return err
	}
	if err := b.fleet.Start(b.life, ctx, node, token); err != nil {
		return err
	}
	return b.machines.SetReady(ctx, node)
}

// checkConfinement tells whether the admission policy judges the agents' writes: without it they would be cheaper.
func (b *bench) checkConfinement(ctx context.Context, node, other string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	token, err := b.machines.Token(ctx, node)
	if err != nil {
		return err
	}
	cfg := rest.CopyConfig(b.plane.Config)
	cfg.BearerToken = token
	intruder, err := client.New(cfg, client.Options{Scheme: b.client.Scheme()})
	if err != nil {
		return fmt.Errorf("make a client of node %s: %w", node, err)
	}
	for name, allowed := range map[string]bool{node: true, other: false} {
		object := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: name}}
		for b.client.Get(ctx, client.ObjectKeyFromObject(object), object) != nil {
			if err := pause(ctx, pollEvery); err != nil { // the manager is about to make it
				return err
			}
		}
		err := intruder.Status().Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(`{"status":{"agentVersion":"bench"}}`)))
		if allowed && err != nil || !allowed && !apierrors.IsForbidden(err) {
			return fmt.Errorf("the agents are not confined as they should be: with the token of %s, a write to %s ended with: %w", node, name, err)
		}
	}
	return nil
}

func forEach(ctx context.Context, atOnce int, names []string, do func(context.Context, string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, name := range names {
		group.Go(func() error { return do(ctx, name) })
	}
	return group.Wait()
}

// nodeNames are the names of a range of nodes.
func nodeNames(from, to int) []string {
	var names []string
	for i := from; i < to; i++ {
		names = append(names, fmt.Sprintf("fleet-%05d", i+1))
	}
	return names
}
