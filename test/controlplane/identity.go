package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// identity is what the API server proves itself with, and what proves an administrator to it; made anew for each control plane.
type identity struct {
	caPEM                 []byte
	caPath                string
	certPath, keyPath     string
	serviceAccountKeyPath string
	tokensPath            string
	adminToken            string
	tokens                map[string]string
}

// lifetime is far longer than any test, and short enough that a forgotten key is worth nothing.
const lifetime = 7 * 24 * time.Hour

func newIdentity(dir string, options Options) (*identity, error) {
	i := &identity{
		certPath: filepath.Join(dir, "apiserver.crt"), keyPath: filepath.Join(dir, "apiserver.key"),
		serviceAccountKeyPath: filepath.Join(dir, "service-account.key"), tokensPath: filepath.Join(dir, "tokens.csv"),
		adminToken: rand.Text(), tokens: map[string]string{},
	}
	if err := i.writeServingCertificate(options.Address); err != nil {
		return nil, fmt.Errorf("make the API server's certificate: %w", err)
	}
	if _, err := writeKey(i.serviceAccountKeyPath); err != nil {
		return nil, fmt.Errorf("make the service accounts' key: %w", err)
	}
	var lines strings.Builder
	lines.WriteString(i.adminToken + ",admin,admin,system:masters\n")
	for _, user := range append(controllerUsers(options), options.Users...) {
		i.tokens[user.Name] = rand.Text()
		fmt.Fprintf(&lines, "%s,%[2]s,%[2]s,%q\n", i.tokens[user.Name], user.Name, strings.Join(user.Groups, ","))
	}
	if err := os.WriteFile(i.tokensPath, []byte(lines.String()), 0o600); err != nil {
		return nil, fmt.Errorf("write the tokens: %w", err)
	}
	i.caPath = filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(i.caPath, i.caPEM, 0o600); err != nil {
		return nil, fmt.Errorf("write the CA's certificate: %w", err)
	}
	return i, nil
}

func (i *identity) writeServingCertificate(address netip.Addr) error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("generate the CA's key: %w", err)
	}
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cloudimage-test-ca"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return fmt.Errorf("sign the CA: %w", err)
	}
	i.caPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})

	key, err := writeKey(i.keyPath)
	if err != nil {
		return err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(kubernetesService)},
	}
	if address.IsValid() {
		server.IPAddresses = append(server.IPAddresses, address.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, server, ca, key.Public(), caKey)
	if err != nil {
		return fmt.Errorf("sign the serving certificate: %w", err)
	}
	if err := os.WriteFile(i.certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write the serving certificate: %w", err)
	}
	return nil
}

func writeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, fmt.Errorf("write a key: %w", err)
	}
	return key, nil
}
