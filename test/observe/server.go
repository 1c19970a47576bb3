package observe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

const (
	// Interval is the time between two scrapes, shorter than anybody's, because a test is.
	Interval = 2 * time.Second

	program    = "/usr/bin/prometheus"
	configFile = "prometheus.yaml"
	rulesFile  = "rules.yaml"
	tokenFile  = "token"
	// targetsFile has a name that Prometheus takes for JSON.
	targetsFile = "targets.json"
	stopGrace   = 10 * time.Second
	startLimit  = 30 * time.Second
)

// Options of a Prometheus.
type Options struct {
	// Dir receives its configuration, its data and its log.
	Dir string
	// Client lists the Pods of Namespace.
	Client    kubernetes.Interface
	Namespace string
	// Token is what it shows to those Pods.
	Token string
	// Rendered is what the chart has for it.
	Rendered *Rendered
}

// Server is a running Prometheus.
type Server struct {
	// API asks it.
	API promv1.API
	// URL has no slash at its end.
	URL string
	// Begin is when it was started.
	Begin time.Time

	process   *process.Process
	discovery *discovery
}

// Start starts Debian's Prometheus on a free port of the loopback interface, and returns when it answers.
func Start(ctx context.Context, options Options) (*Server, error) {
	if err := options.writeFiles(); err != nil {
		return nil, err
	}
	port, err := controlplane.FreePort()
	if err != nil {
		return nil, err
	}
	s := &Server{URL: fmt.Sprintf("http://127.0.0.1:%d", port), Begin: time.Now()}
	client, err := api.NewClient(api.Config{Address: s.URL})
	if err != nil {
		return nil, fmt.Errorf("make a client of Prometheus: %w", err)
	}
	s.API = promv1.NewAPI(client)
	if s.discovery, err = startDiscovery(ctx, options); err != nil {
		return nil, err
	}
	s.process, err = process.Start(process.Command{
		Name: "prometheus", Path: program, LogPath: filepath.Join(options.Dir, "prometheus.log"),
		Args: []string{
			"--config.file=" + filepath.Join(options.Dir, configFile), "--storage.tsdb.path=" + filepath.Join(options.Dir, "data"),
			fmt.Sprintf("--web.listen-address=127.0.0.1:%d", port),
		},
	})
	if err != nil {
		s.discovery.stop()
		return nil, err
	}
	if err := s.waitAnswer(ctx); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

func (o Options) writeFiles() error {
	config, err := o.Rendered.config(Interval.String())
	if err != nil {
		return fmt.Errorf("make Prometheus' configuration: %w", err)
	}
	rules, err := o.Rendered.rules()
	if err != nil {
		return fmt.Errorf("make Prometheus' rules: %w", err)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return fmt.Errorf("make Prometheus' folder: %w", err)
	}
	for name, data := range map[string][]byte{configFile: config, rulesFile: rules, tokenFile: []byte(o.Token)} {
		if err := os.WriteFile(filepath.Join(o.Dir, name), data, 0o600); err != nil {
			return fmt.Errorf("configure Prometheus: %w", err)
		}
	}
	return nil
}

func (s *Server) waitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("prometheus did not answer within %s", startLimit))
	defer cancel()
	for {
		_, err := s.API.Runtimeinfo(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.process.Done():
			return s.process.Err()
		case <-ctx.Done():
			return fmt.Errorf("%w: %w; the end of its log:\n%s", context.Cause(ctx), err, process.Tail(s.LogPath(), 20))
		case <-time.After(Interval / 20):
		}
	}
}

// LogPath is the file of its messages.
func (s *Server) LogPath() string { return s.process.LogPath() }

// Stop ends it.
func (s *Server) Stop() error {
	s.discovery.stop()
	return s.process.Stop(stopGrace)
}
