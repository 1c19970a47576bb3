package serve

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// metricsBounds keep what strangers make a process hold below some 20 MiB: a header of 16 KiB that consists of the shortest names
// takes 0.3 MiB once it is read. A scraper has to read its answer in less time than there is between two scrapes.
var metricsBounds = bounds{
	connections: 64, perAddress: 16, head: 20 << 10, asking: 5 * time.Second, answering: 15 * time.Second, idle: 75 * time.Second,
}

// scrapesAtOnce bounds the answers that are written at the same time: each compresses.
const scrapesAtOnce = 8

// Metrics says where and to whom a process serves its metrics.
type Metrics struct {
	// Address to listen on, as host:port; 0 serves none, and empty is :8080.
	Address string
	// Secure serves TLS, and only to those that the API server lets get /metrics.
	Secure bool
	// CertDir holds tls.crt and tls.key, which are read again when they change;
	// empty for a certificate that is made at each start and that nobody signed.
	CertDir string
}

// AddTo makes a manager serve what is gathered; its own server has to be off. The address is taken at once. An error says that
// it, or a certificate, is not to be had.
func (m Metrics) AddTo(mgr manager.Manager, gathered prometheus.Gatherer) error {
	if !m.Secure && m.CertDir != "" {
		return errors.New("--metrics-cert-dir needs --metrics-secure")
	}
	if m.Address == "0" {
		return nil
	}
	logger := mgr.GetLogger().WithName("metrics")
	answers := promhttp.HandlerFor(gathered, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesAtOnce})
	if !m.Secure {
		b := metricsBounds
		b.idle = 0 // everybody is let in, and who was let in is not the first to give way
		return m.serve(mgr, b, nil, public(answers), logger)
	}
	review, err := newReview(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return err
	}
	config, watch, err := certificates(m.CertDir)
	if err != nil {
		return err
	}
	if watch != nil {
		if err := mgr.Add(watch); err != nil {
			return fmt.Errorf("watch the certificate for the metrics: %w", err)
		}
	}
	return m.serve(mgr, metricsBounds, config, newGuard(answers, review, logger), logger)
}

func (m Metrics) serve(mgr manager.Manager, b bounds, config *tls.Config, answers http.Handler, logger logr.Logger) error {
	l, err := listen(cmp.Or(m.Address, ":8080"), b, config)
	if err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", answers)
	return mgr.Add(newServer("metrics", l, b, mux, logger))
}
