package controller

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

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

// Options are those of the server; an error says that there is no certificate.
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
	options.TLSOpts = append(options.TLSOpts, func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })
	if s.CertDir == "" {
		certificate, err := selfSigned(time.Now())
		if err != nil {
			return options, fmt.Errorf("make a certificate for the metrics: %w", err)
		}
		options.TLSOpts = append(options.TLSOpts, func(c *tls.Config) {
			c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate, nil }
		})
		return options, nil
	}
	// The server would fall back to a certificate of its own without a word.
	for _, name := range []string{"tls.crt", "tls.key"} {
		if _, err := os.Stat(filepath.Join(s.CertDir, name)); err != nil {
			return options, fmt.Errorf("--metrics-cert-dir: %w", err)
		}
	}
	return options, nil
}

// selfSigned makes a certificate that keeps scrapes from being read on their way;
// it proves nothing. Its ECDSA key costs a fraction of the RSA keys that the
// server would make by itself.
func selfSigned(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "cloudimage-metrics"}, DNSNames: []string{"localhost"},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(10, 0, 0), // no process runs for so long
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
