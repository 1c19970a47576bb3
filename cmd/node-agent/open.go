package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
)

// openEvery is how often a store that cannot be opened is tried again.
const openEvery = 10 * time.Second

// storeOptions are how the agent keeps its store.
type storeOptions struct {
	maxStoreSize  string
	minFreeSpace  string
	scrubInterval time.Duration
	scrubRate     string

	limits     pull.Limits
	scrubBytes int64
}

func (o *storeOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.maxStoreSize, "max-store-size", "", "most that images, unfinished pulls and quarantine may take together, a `quantity` of bytes; default no limit")
	flags.StringVar(&o.minFreeSpace, "min-free-space", "15%", "what has to stay free on the store's filesystem, a `quantity` of bytes or a percentage; the kubelet evicts Pods and container images when less is free")
	flags.DurationVar(&o.scrubInterval, "scrub-interval", 168*time.Hour, "within what time every image on the disk is read again and compared with its digest; 0 to read each once after a start only")
	flags.StringVar(&o.scrubRate, "scrub-bytes-per-second", "20M", "how fast images are read again, a `quantity` of bytes; 0 is no limit")
}

// parse reads the quantities.
func (o *storeOptions) parse() (err error) {
	if o.scrubInterval < 0 {
		return fmt.Errorf("--scrub-interval is %s: use a positive duration, or 0", o.scrubInterval)
	}
	if o.maxStoreSize != "" {
		if o.limits.MaxSize, err = parseQuantity("max-store-size", o.maxStoreSize); err != nil {
			return err
		}
	}
	if o.scrubRate != "0" {
		if o.scrubBytes, err = parseQuantity("scrub-bytes-per-second", o.scrubRate); err != nil {
			return err
		}
	}
	if percent, ok := strings.CutSuffix(o.minFreeSpace, "%"); ok {
		o.limits.MinFreePercent, err = strconv.ParseFloat(percent, 64)
		if err != nil || !(o.limits.MinFreePercent >= 0 && o.limits.MinFreePercent < 100) { // not a NaN either
			return fmt.Errorf("--min-free-space is %.40q: use a percentage from 0%% to below 100%%, or a quantity of bytes such as 20Gi", o.minFreeSpace)
		}
		return nil
	}
	if o.minFreeSpace != "0" {
		o.limits.MinFree, err = parseQuantity("min-free-space", o.minFreeSpace)
	}
	return err
}

// open opens the store as soon as that is possible, and says in the node's object
// why it is not. It returns nil when the context ends.
func (a *agent) open(ctx context.Context) *pull.Store {
	reported := false
	waiting := func(why error) {
		// Once: the process in the way may be another agent, which reports the opposite.
		if a.unopened.Store(&why); !reported {
			reported = a.notOpened(ctx, why)
		}
	}
	for {
		store, err := pull.Open(ctx, a.opts.store, pull.OpenOptions{
			Wait: true, Waiting: waiting, Logger: slog.New(logr.ToSlogHandler(a.logger)), Limits: a.opts.limits,
			MaxBytesPerSecond: a.opts.nodeRate, MaxConnections: a.opts.nodeConnections, MaxConnectionsPerHost: a.opts.hostConnections,
		})
		if err == nil {
			a.unopened.Store(nil)
			return store
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w; give the folder to this agent's user: where an init container does that, delete this Pod", err)
		}
		a.notOpened(ctx, err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(openEvery):
		}
	}
}

// notOpened says in the log, in the readiness probe and in the node's object why the
// store is not open yet, and tells whether the object says so now.
func (a *agent) notOpened(ctx context.Context, why error) bool {
	a.unopened.Store(&why)
	a.logger.Error(why, "the store cannot be opened; it is tried again", "path", a.opts.store)
	err := controller.ReportStorage(ctx, a.mgr.GetClient(), a.opts.node, why, time.Now())
	if client.IgnoreNotFound(err) != nil {
		a.logger.Error(err, "that could not be reported")
	}
	return err == nil
}

// scrub starts the scrub, and returns what ends it.
func (a *agent) scrub(ctx context.Context, store *pull.Store, images *controller.Images) func() {
	ctx, stop := context.WithCancel(ctx)
	var scrub sync.WaitGroup
	scrub.Go(func() {
		err := store.Scrub(ctx, pull.ScrubOptions{
			Interval: a.opts.scrubInterval, BytesPerSecond: a.opts.scrubBytes, Wrong: images.Lost,
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			a.logger.Error(err, "the scrub ended")
		}
	})
	return func() {
		stop()
		scrub.Wait()
	}
}
