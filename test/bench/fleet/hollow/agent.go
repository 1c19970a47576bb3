package hollow

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
)

// concurrentPulls is the agent's default.
const concurrentPulls = 2

// Fleet is the agents of all nodes, in one process.
type Fleet struct {
	// Config reaches the API server; its token is replaced by each agent's.
	Config *rest.Config
	Scheme *runtime.Scheme
	// PullTakes is how long a simulated pull takes.
	PullTakes time.Duration
	Board     *Board
	Traffic   *Traffic
	Log       logr.Logger

	metrics *controller.AgentMetrics
	once    sync.Once
	agents  sync.WaitGroup
	mu      sync.Mutex
	failed  error
}

// Start starts the agent of a node, and returns when its watch has begun. It ends with the first context; the second bounds the start.
func (f *Fleet) Start(ctx, starting context.Context, node, token string) error {
	f.once.Do(func() { f.metrics = controller.NewAgentMetrics(prometheus.NewRegistry()) })
	mgr, err := f.newManager(node, token)
	if err != nil {
		return fmt.Errorf("create the agent of %s: %w", node, err)
	}
	engine := NewEngine(node, f.PullTakes, f.Board)
	images := controller.NewImages(ctx, engine, controller.ImagesOptions{
		Concurrent: concurrentPulls, Now: time.Now, Random: rand.Float64, Metrics: f.metrics, Log: f.Log.WithName("images"),
	})
	reporter := &controller.Reporter{
		Client: &watched{Client: mgr.GetClient(), board: f.Board, sight: sight{revisions: map[string]string{}}},
		Node:   node, Version: "bench", Store: engine, Images: images, Metrics: f.metrics, Now: time.Now, Random: rand.Float64,
	}
	if err := reporter.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the agent of %s: %w", node, err)
	}
	f.agents.Go(func() {
		defer images.Stop()
		if err := mgr.Start(ctx); err != nil {
			f.fail(fmt.Errorf("the agent of %s ended: %w", node, err))
		}
	})
	if _, err := mgr.GetCache().GetInformer(starting, &v1alpha1.NodeImageCache{}); err != nil {
		return fmt.Errorf("wait for the watch of %s: %w", node, err)
	}
	return nil
}

// newManager is as cmd/node-agent makes it, without servers, and with a connection that no other agent shares: client-go shares one
// among all clients that differ only in their token, unless they dial in ways of their own.
func (f *Fleet) newManager(node, token string) (manager.Manager, error) {
	cfg := rest.CopyConfig(f.Config)
	cfg.BearerToken, cfg.UserAgent = token, "cloudimage-node-agent/bench"
	cfg.Dial, cfg.WrapTransport = f.Traffic.dial, f.Traffic.wrap
	return ctrl.NewManager(cfg, ctrl.Options{
		Scheme: f.Scheme, Logger: f.Log, Cache: controller.AgentCache(node),
		Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: ctrlconfig.Controller{SkipNameValidation: new(true)}, // a process has one reporter elsewhere
	})
}

// Wait returns when every agent has ended, with the first error of one that ended by itself.
func (f *Fleet) Wait() error {
	f.agents.Wait()
	return f.Err()
}

// Err is the first error of an agent that ended by itself.
func (f *Fleet) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

func (f *Fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == nil {
		f.failed = err
	}
}

// watched notes what the reporter reads: an order has reached an agent when its reconciler sees it.
type watched struct {
	client.Client
	board *Board
	sight sight
}

// Get implements client.Reader.
func (w *watched) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	err := w.Client.Get(ctx, key, object, options...)
	if cache, ok := object.(*v1alpha1.NodeImageCache); ok && err == nil {
		w.board.look(&w.sight, cache)
	}
	return err
}
