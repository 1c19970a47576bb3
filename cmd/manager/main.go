// Command manager is the controller: it assigns cloud images to nodes and folds
// what the agents report into the status of every CloudImage.
//
// +kubebuilder:rbac:groups=prefetch.cloudimage.dev,resources=cloudimages,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=prefetch.cloudimage.dev,resources=cloudimages/status,verbs=patch
// +kubebuilder:rbac:groups=prefetch.cloudimage.dev,resources=nodeimagecaches,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",namespace=cloudimage-system,resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=cloudimage-system,resources=leases,verbs=get;create;update;patch
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingadmissionpolicies;validatingadmissionpolicybindings,verbs=get;list;watch
// +kubebuilder:rbac:groups="";events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
	"github.com/cloudimage-dev/cloudimage-operator/internal/serve"
)

// version is set by the build.
var version = "dev"

// Writes are few but come in bursts, when an image is applied to all nodes.
const (
	writesPerSecond = 200
	writesBurst     = 400
)

type options struct {
	namespace     string
	agentSelector string
	metrics       serve.Metrics
	healthAddr    string
	leaderElect   bool
	nodeLabels    bool
	agentAccount  string
	confinement   string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "uninstall" {
		os.Exit(runUninstall(ctrl.SetupSignalHandler(), os.Args[2:], os.Stderr))
	}
	opts, logger, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintf(os.Stderr, "manager: %v\nRun 'manager --help' for the flags.\n", err)
		os.Exit(2)
	}
	ctrl.SetLogger(logger)
	cfg, err := config.GetConfig()
	if err == nil {
		err = run(ctrl.SetupSignalHandler(), cfg, opts)
	}
	if err != nil {
		logger.Error(err, "manager stopped")
		os.Exit(1)
	}
}

func parse(args []string) (options, logr.Logger, error) {
	var opts options
	flags := pflag.NewFlagSet("manager", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.StringVar(&opts.namespace, "namespace", "cloudimage-system", "namespace of the agents' Pods and of the leader's Lease")
	flags.StringVar(&opts.agentSelector, "agent-selector", "app.kubernetes.io/name=cloudimage-operator,app.kubernetes.io/component=node-agent", "labels of the agents' Pods")
	flags.BoolVar(&opts.leaderElect, "leader-elect", true, "act only while holding the Lease, so that several managers can run")
	flags.StringVar(&opts.metrics.Address, "metrics-bind-address", ":8080", "address of /metrics; 0 to serve none")
	flags.BoolVar(&opts.metrics.Secure, "metrics-secure", true, "serve /metrics over TLS, and only to those who may get that path; false for plain HTTP to everybody")
	flags.StringVar(&opts.metrics.CertDir, "metrics-cert-dir", "", "directory of tls.crt and tls.key for /metrics; without it a certificate is made at each start")
	flags.BoolVar(&opts.nodeLabels, "node-labels", true, "keep on every Node a label "+v1alpha1.NodeLabelPrefix+"<image> while the image is ready there; false leaves Nodes alone, also labels that are there")
	flags.StringVar(&opts.agentAccount, "agent-service-account", "cloudimage-agent", "ServiceAccount of the agents, in --namespace")
	flags.StringVar(&opts.confinement, "confinement-policy", "cloudimage-agent-confinement", "ValidatingAdmissionPolicy that is to confine each agent to its own node; the manager warns while it does not")
	flags.StringVar(&opts.healthAddr, "health-probe-bind-address", ":8081", "address of /healthz and /readyz; 0 to serve none")
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	flags.AddGoFlagSet(flag.CommandLine) // --kubeconfig and --zap-…
	flags.Usage = func() {
		fmt.Fprintf(os.Stderr, "The manager assigns cloud images to nodes. It needs a kubeconfig or a Pod's service account.\n\nFlags:\n%s", flags.FlagUsages())
	}
	err := flags.Parse(args)
	if err == nil && flags.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	return opts, zap.New(zap.UseFlagOptions(&logging)), err
}

func run(ctx context.Context, cfg *rest.Config, opts options) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return fmt.Errorf("build the scheme: %w", err)
	}
	agentLabels, err := labels.ConvertSelectorToLabelsMap(opts.agentSelector)
	if err != nil {
		return fmt.Errorf("--agent-selector: %w", err)
	}
	agents := controller.AgentPods{Namespace: opts.namespace, Labels: agentLabels}
	cfg.QPS, cfg.Burst = writesPerSecond, writesBurst
	cfg.UserAgent = "cloudimage-manager/" + version
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme:                        scheme,
		Cache:                         controller.ManagerCache(agents),
		Metrics:                       metricsserver.Options{BindAddress: "0"}, // internal/serve's
		LeaderElection:                opts.leaderElect,
		LeaderElectionID:              "cloudimage-manager",
		LeaderElectionNamespace:       opts.namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return fmt.Errorf("create the manager: %w", err)
	}
	measured := controller.NewManagerMetrics(metrics.Registry)
	planner := &controller.Planner{
		Client: measured.MeasureWrites(mgr.GetClient()), Agents: agents, Now: time.Now,
		Events:  mgr.GetEventRecorder("cloudimage-manager"),
		Metrics: measured,
	}
	if err := planner.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the planner: %w", err)
	}
	if err := addOthers(mgr, planner.Client, opts); err != nil {
		return err
	}
	if err := errors.Join(serve.Probes{Address: opts.healthAddr}.AddTo(mgr), opts.metrics.AddTo(mgr, metrics.Registry)); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// addOthers adds what works beside the planner: the labels of Nodes, and the
// watch over the agents' confinement.
func addOthers(mgr manager.Manager, c client.Client, opts options) error {
	if opts.nodeLabels {
		labeler := &controller.Labeler{Client: c, Now: time.Now}
		if err := labeler.SetupWithManager(mgr); err != nil {
			return fmt.Errorf("set up the node labels: %w", err)
		}
	}
	// A cache of its own: the planner waits for the manager's, which would never be
	// in step where admission policies may not be read.
	policies, err := cache.New(mgr.GetConfig(), cache.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return fmt.Errorf("set up the watch over the agents' confinement: %w", err)
	}
	watch := controller.NewConfinementWatch(controller.ConfinementWatch{
		Confinement: controller.Confinement{Policy: opts.confinement, Namespace: opts.namespace, ServiceAccount: opts.agentAccount},
		Reader:      mgr.GetAPIReader(), Informers: policies,
		Events: mgr.GetEventRecorder("cloudimage-manager"), Elected: mgr.Elected(), Log: mgr.GetLogger().WithName("confinement"),
	}, metrics.Registry)
	if err := errors.Join(mgr.Add(policies), mgr.Add(watch)); err != nil {
		return fmt.Errorf("add the watch over the agents' confinement: %w", err)
	}
	return nil
}
