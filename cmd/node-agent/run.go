package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/serve"
)

// partialsKept is how long an unfinished pull may lie in the store untouched: its
// image may have gone from this node while the agent was away.
const partialsKept = 24 * time.Hour

type agentOptions struct {
	node            string
	store           string
	sourceNamespace string
	concurrentPulls int
	nodeRate        int64
	nodeConnections int
	hostConnections int
	metrics         serve.Metrics
	healthAddr      string

	networkOptions
	storeOptions
}

// runAgent is the subcommand run.
func runAgent(ctx context.Context, args []string, stderr io.Writer) int {
	opts, logger, err := parseAgent(args, stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "node-agent run: %v\nRun 'node-agent run --help' for the flags.\n", err)
		return exitUsage
	}
	ctrl.SetLogger(logger)
	log.SetOutput(io.Discard) // net/http would print what a wrong server sends after a body
	cfg, err := config.GetConfig()
	if err == nil {
		err = follow(ctx, cfg, opts, logger)
	}
	if err != nil {
		logger.Error(err, "agent stopped")
		return exitError
	}
	return exitOK
}

func parseAgent(args []string, stderr io.Writer) (agentOptions, logr.Logger, error) {
	var opts agentOptions
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.StringVar(&opts.node, "node-name", os.Getenv("NODE_NAME"), "name of this Node; default $NODE_NAME")
	flags.StringVar(&opts.store, "store", "/var/lib/cloudimage", "directory of the node's images")
	flags.StringVar(&opts.sourceNamespace, "source-namespace", "cloudimage-sources", "namespace of the Secrets and ConfigMaps that sources name")
	flags.IntVar(&opts.concurrentPulls, "concurrent-pulls", 2, "most pulls that fetch at the same time on this node; those whose server has not answered yet come on top")
	flags.Int64Var(&opts.nodeRate, "node-max-bytes-per-second", 0, "most bytes per second over all pulls of this node together, shared equally; 0 is no limit")
	flags.IntVar(&opts.nodeConnections, "node-max-connections", 0, "most connections over all pulls of this node together, shared equally; 0 is no limit")
	flags.IntVar(&opts.hostConnections, "node-max-connections-per-host", 0, "most connections of this node to one server; 0 is no limit")
	opts.networkOptions.addFlags(flags)
	opts.storeOptions.addFlags(flags)
	flags.StringVar(&opts.metrics.Address, "metrics-bind-address", ":8080", "address of /metrics; 0 to serve none")
	flags.BoolVar(&opts.metrics.Secure, "metrics-secure", true, "serve /metrics over TLS, and only to those who may get that path; false for plain HTTP to everybody")
	flags.StringVar(&opts.metrics.CertDir, "metrics-cert-dir", "", "directory of tls.crt and tls.key for /metrics; without it a certificate is made at each start")
	flags.StringVar(&opts.healthAddr, "health-probe-bind-address", ":8081", "address of /healthz and /readyz; 0 to serve none")
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	flags.AddGoFlagSet(flag.CommandLine) // --kubeconfig and --zap-…
	flags.Usage = func() {
		fmt.Fprintf(stderr, "The agent pulls the images that its node is assigned. It needs a kubeconfig or a Pod's service account.\n\nFlags:\n%s", flags.FlagUsages())
	}
	if err := flags.Parse(args); err != nil {
		return opts, logr.Logger{}, err
	}
	err := opts.check(flags.Args())
	return opts, zap.New(zap.UseFlagOptions(&logging)), err
}

// check refuses what cannot work, and reads what the flags and the environment say.
func (o *agentOptions) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case o.node == "":
		return errors.New("--node-name or $NODE_NAME is needed")
	case o.concurrentPulls < 1:
		return fmt.Errorf("--concurrent-pulls must be at least 1, not %d", o.concurrentPulls)
	case o.nodeRate < 0 || o.nodeConnections < 0 || o.hostConnections < 0:
		return errors.New("a limit of the node must be positive, or 0 for none")
	}
	if err := o.storeOptions.parse(); err != nil {
		return err
	}
	return o.networkOptions.parse()
}

// follow runs the agent until the context ends.
func follow(ctx context.Context, cfg *rest.Config, opts agentOptions, logger logr.Logger) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("build the scheme: %w", err)
	}
	cfg.UserAgent = "cloudimage-node-agent/" + version
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:  scheme,
		Cache:   controller.AgentCache(opts.node),
		Metrics: metricsserver.Options{BindAddress: "0"}, // internal/serve's
	})
	if err != nil {
		return fmt.Errorf("create the manager: %w", err)
	}
	a := &agent{opts: opts, mgr: mgr, logger: logger, metrics: controller.NewAgentMetrics(metrics.Registry)}
	probes := serve.Probes{Address: opts.healthAddr, Ready: a.ready}
	if err := errors.Join(probes.AddTo(mgr), opts.metrics.AddTo(mgr, metrics.Registry), mgr.Add(a)); err != nil {
		return fmt.Errorf("set up the agent: %w", err)
	}
	return mgr.Start(ctx)
}

// agent opens the store once it is free and follows the orders from then on.
// Until then it serves its probes, alive but not ready: a rolling update may
// start it while its predecessor still holds the store.
type agent struct {
	opts     agentOptions
	mgr      manager.Manager
	logger   logr.Logger
	metrics  *controller.AgentMetrics
	reporter atomic.Pointer[controller.Reporter]
	unopened atomic.Pointer[error] // why the store could not be opened the last time
}

// Start is called by the manager and returns when the context ends, or when the
// store has to be opened by a new process.
func (a *agent) Start(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	store := a.open(ctx)
	if store == nil {
		return nil
	}
	// The reporter may look at the store until the process ends, which lets go of it; nothing is pending, because every pull syncs
	// what it publishes.
	a.logger.Info("store opened", "path", a.opts.store)
	if _, err := store.DiscardPartials(time.Now().Add(-partialsKept)); err != nil {
		a.logger.Error(err, "old partial data could not be removed")
	}
	node := &nodeStore{
		store: store, addresses: a.opts.addresses, proxy: a.opts.proxy,
		sources:   &controller.Sources{Reader: a.mgr.GetAPIReader(), Namespace: a.opts.sourceNamespace},
		userAgent: fmt.Sprintf("cloudimage-node-agent/%s (%s)", version, a.opts.node), metrics: a.metrics, replaced: stop,
	}
	images := controller.NewImages(ctx, node, controller.ImagesOptions{
		Concurrent: a.opts.concurrentPulls, Now: time.Now, Random: rand.Float64, Metrics: a.metrics, Log: a.logger.WithName("images"),
		AccessVersion: node.sources.Version,
	})
	defer images.Stop()
	defer a.scrub(ctx, store, images)()
	reporter := &controller.Reporter{
		Client: a.mgr.GetClient(), Node: a.opts.node, Version: version, Store: node, Images: images,
		Metrics: a.metrics, Now: time.Now, Random: rand.Float64,
	}
	if err := reporter.SetupWithManager(a.mgr); err != nil {
		return fmt.Errorf("set up the reporter: %w", err)
	}
	if !a.mgr.GetCache().WaitForCacheSync(ctx) {
		return nil
	}
	a.reporter.Store(reporter)
	<-ctx.Done()
	if cause := context.Cause(ctx); errors.Is(cause, pull.ErrReplaced) {
		return fmt.Errorf("the agent starts anew: %w", cause)
	}
	return nil
}

// ready is the readiness probe.
func (a *agent) ready(*http.Request) error {
	reporter := a.reporter.Load()
	if reporter == nil {
		if err := a.unopened.Load(); err != nil {
			return *err
		}
		return fmt.Errorf("waiting for the store %s or the API server", a.opts.store)
	}
	return reporter.Healthy()
}
