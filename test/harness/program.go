package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

const (
	probeInterval  = 200 * time.Millisecond
	probeTimeout   = time.Second
	restartBackoff = time.Second
	stopGrace      = 15 * time.Second
)

// Program is a manager or an agent that is kept running, as a kubelet keeps a container: it is started again a second after it
// died, on other ports, and its readiness is asked for five times a second.
type Program struct {
	// Name is that of the program and its node.
	Name string
	// LogPath is the log of all its runs.
	LogPath string

	path string
	args func(metricsAddress, healthAddress string) []string
	// onReady is told about each change of readiness, again until it returns no error; nil if nobody wants to know.
	onReady func(ctx context.Context, ready bool) error
	client  *http.Client

	mu      sync.Mutex
	cancel  context.CancelFunc // nil while it is stopped
	done    chan struct{}
	run     *run
	ready   bool
	started int
}

// run is one process and where it listens.
type run struct {
	process                       *process.Process
	metricsAddress, healthAddress string
}

// Start begins to keep the program running; it does not wait for it.
func (p *Program) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		return fmt.Errorf("start %s: it runs already", p.Name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel, p.done = cancel, make(chan struct{})
	go p.keepRunning(ctx, p.done)
	return nil
}

// Stop ends the program and leaves it ended.
func (p *Program) Stop() error {
	p.mu.Lock()
	cancel, done := p.cancel, p.done
	p.cancel = nil
	p.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	<-done
	return p.findRace()
}

// Replace stops the program and keeps another one running in its place, with the same arguments, as an upgrade does.
func (p *Program) Replace(path string) error {
	if err := p.Stop(); err != nil {
		return err
	}
	p.path = path
	return p.Start()
}

// findRace is an error if the race detector of a program that was built with it wrote into its log.
func (p *Program) findRace() error {
	log, err := os.ReadFile(p.LogPath)
	if err != nil {
		return fmt.Errorf("read the log of %s: %w", p.Name, err)
	}
	_, race, found := bytes.Cut(log, []byte("WARNING: DATA RACE"))
	if !found {
		return nil
	}
	return fmt.Errorf("%s has a data race:%.4000s", p.Name, race)
}

// Kill sends SIGKILL to the process that runs now, and returns when it is gone. It is started again unless Stop is called.
func (p *Program) Kill() error {
	p.mu.Lock()
	run := p.run
	p.mu.Unlock()
	if run == nil {
		return fmt.Errorf("kill %s: it does not run", p.Name)
	}
	return run.process.Kill()
}

// PID is the id of the process that runs now, 0 if none does.
func (p *Program) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil {
		return 0
	}
	return p.run.process.PID()
}

// MetricsAddress is where the process that runs now serves its metrics, empty if none does.
func (p *Program) MetricsAddress() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil {
		return ""
	}
	return p.run.metricsAddress
}

// Starts counts how often the program was started.
func (p *Program) Starts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started
}

// WaitReady returns when the program's last probe said ready.
func (p *Program) WaitReady(ctx context.Context) error {
	ticker := time.NewTicker(probeInterval / 4)
	defer ticker.Stop()
	for {
		p.mu.Lock()
		ready := p.ready
		p.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s is ready: %w; the end of its log %s:\n%s",
				p.Name, context.Cause(ctx), p.LogPath, process.Tail(p.LogPath, 20))
		case <-ticker.C:
		}
	}
}

func (p *Program) keepRunning(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	defer p.client.CloseIdleConnections()
	for {
		run, err := p.exec()
		if err == nil {
			p.watch(ctx, run)
		}
		p.report(false)
		select {
		case <-ctx.Done():
			return
		case <-time.After(restartBackoff):
		}
	}
}

func (p *Program) exec() (*run, error) {
	ports := [2]string{}
	for i := range ports {
		port, err := controlplane.FreePort()
		if err != nil {
			return nil, err
		}
		ports[i] = fmt.Sprintf("127.0.0.1:%d", port)
	}
	child, err := process.Start(process.Command{
		Name: p.Name, Path: p.path, Args: p.args(ports[0], ports[1]), LogPath: p.LogPath,
	})
	if err != nil {
		return nil, err
	}
	started := &run{process: child, metricsAddress: ports[0], healthAddress: ports[1]}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run = started
	p.started++
	return started, nil
}

// watch returns when the process has ended, by itself or because the context did.
func (p *Program) watch(ctx context.Context, run *run) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.run = nil
	}()
	ticker := time.NewTicker(probeInterval)
	defer ticker.Stop()
	for {
		select {
		case <-run.process.Done():
			return
		case <-ctx.Done():
			// It can fail only when the process is gone already.
			_ = run.process.Stop(stopGrace)
			return
		case <-ticker.C:
			p.report(p.Probe(ctx) == nil)
		}
	}
}

// Probe asks the process that runs now for its readiness, as the kubelet does.
func (p *Program) Probe(ctx context.Context) error {
	p.mu.Lock()
	run := p.run
	p.mu.Unlock()
	if run == nil {
		return fmt.Errorf("ask %s for readiness: it does not run", p.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+run.healthAddress+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("make the readiness request: %w", err)
	}
	response, err := p.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s for readiness: %w", p.Name, err)
	}
	if err := response.Body.Close(); err != nil {
		return fmt.Errorf("ask %s for readiness: %w", p.Name, err)
	}
	if response.StatusCode != http.StatusOK {
		return errors.New("not ready: " + response.Status)
	}
	return nil
}

// report tells a change. Its context is not the program's, so that a stopped program's Pod is not left Ready.
func (p *Program) report(ready bool) {
	p.mu.Lock()
	changed := ready != p.ready
	p.mu.Unlock()
	if !changed {
		return
	}
	if p.onReady != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := p.onReady(ctx, ready); err != nil {
			return // the next probe tries again
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = ready
}
