package controller

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// MetricsServer says where and to whom a process serves its metrics.
type MetricsServer struct {
	// Address to listen on, as host:port; 0 serves none.
	Address string
	// Secure serves TLS, and only to those that the API server lets get /metrics.
	Secure bool
	// CertDir holds tls.crt and tls.key, which are read again when they change;
	// empty for a certificate that is made at each start and that nobody signed.
	CertDir string
}

// Options are those of the server; an error says that the certificate is not there.
func (s MetricsServer) Options() (metricsserver.Options, error) {
	options := metricsserver.Options{BindAddress: s.Address}
	if !s.Secure {
		if s.CertDir != "" {
			return options, errors.New("--metrics-cert-dir needs --metrics-secure")
		}
		return options, nil
	}
	options.SecureServing, options.CertDir, options.FilterProvider = true, s.CertDir, NewScrapeFilter
	// One scrape a connection at a time needs no HTTP/2, and no defence against its floods.
	options.TLSOpts = []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }}
	if s.CertDir == "" {
		return options, nil
	}
	// The server would fall back to its own certificate without a word.
	for _, name := range []string{"tls.crt", "tls.key"} {
		if _, err := os.Stat(filepath.Join(s.CertDir, name)); err != nil {
			return options, fmt.Errorf("--metrics-cert-dir: %w", err)
		}
	}
	return options, nil
}
