package serve

import (
	"fmt"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// probesBounds are small: a probe is some hundred bytes without TLS, and its answer is two.
var probesBounds = bounds{connections: 32, perAddress: 8, head: 4 << 10, asking: 2 * time.Second, answering: 5 * time.Second}

// Probes says where a process answers the kubelet, and what.
type Probes struct {
	// Address to listen on, as host:port; 0 or empty answers none.
	Address string
	// Ready is an error while the process cannot do its work; nil if it always can.
	Ready healthz.Checker
}

// AddTo makes a manager answer /healthz and /readyz; its own server has to be off. The address is taken at once.
func (p Probes) AddTo(mgr manager.Manager) error {
	if p.Address == "" || p.Address == "0" {
		return nil
	}
	l, err := listen(p.Address, probesBounds, nil)
	if err != nil {
		return fmt.Errorf("serve probes: %w", err)
	}
	ready := p.Ready
	if ready == nil {
		ready = healthz.Ping
	}
	mux := http.NewServeMux()
	for path, check := range map[string]healthz.Checker{"/healthz": healthz.Ping, "/readyz": ready} {
		answers := http.StripPrefix(path, &healthz.Handler{Checks: map[string]healthz.Checker{"ping": check}})
		mux.Handle(path, answers)
		mux.Handle(path+"/", answers)
	}
	return mgr.Add(newServer("probes", l, probesBounds, public(mux), mgr.GetLogger().WithName("probes")))
}
