package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

const (
	apiServerTimeout  = time.Minute
	apiServerAttempts = 5

	serviceNetwork = "10.0.0.0/24"
	// kubernetesService is the address of the API server's own Service: the first of the network.
	kubernetesService = "10.0.0.1"
)

// startAPIServer picks a free port and starts the server on it, again when somebody else took the port in between.
func (c *ControlPlane) startAPIServer(ctx context.Context) (port int, err error) {
	for attempt := 1; ; attempt++ {
		if port, err = FreePort(); err != nil {
			return 0, err
		}
		c.apiserver, err = c.runAPIServer(ctx, "kube-apiserver", port)
		if err == nil {
			return port, nil
		}
		if attempt == apiServerAttempts || !strings.Contains(err.Error(), "address already in use") {
			return 0, err
		}
	}
}

// runAPIServer returns when the server answers. The process is not nil also when it was started and does not answer.
func (c *ControlPlane) runAPIServer(ctx context.Context, name string, port int, flags ...string) (*process.Process, error) {
	log := filepath.Join(c.dir, name+".log")
	if err := os.RemoveAll(log); err != nil { // of an earlier run, so that no old message is taken for a new one
		return nil, fmt.Errorf("remove the log of an earlier run: %w", err)
	}
	p, err := process.Start(process.Command{
		Name: name, Path: c.Programs.KubeAPIServer, Dir: c.dir, LogPath: log,
		Args: slices.Concat(apiServerArgs(port, c.identity, c.nodes), c.flags, flags),
	})
	if err != nil {
		return nil, err
	}
	client, err := c.identity.client()
	if err != nil {
		return p, err
	}
	defer client.CloseIdleConnections()
	return p, waitFor(ctx, p, apiServerTimeout, func(ctx context.Context) error {
		return ready(ctx, client, addressOf(port), c.identity.adminToken)
	})
}

func addressOf(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// apiServerArgs keep the server on loopback, unless nodes have to reach it at an address.
func apiServerArgs(port int, identity *identity, nodes netip.Addr) []string {
	// An Endpoints object must not name loopback, and without nodes nobody resolves the service.
	listen := []string{"--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"}
	if nodes.IsValid() {
		listen = []string{
			"--bind-address=0.0.0.0", "--advertise-address=" + nodes.String(),
			// For the logs of Pods; the nodes' names are in no name server.
			"--kubelet-client-certificate=" + identity.kubeletCertPath, "--kubelet-client-key=" + identity.kubeletKeyPath,
			"--kubelet-preferred-address-types=InternalIP",
		}
	}
	return append(listen,
		"--etcd-servers=unix://"+etcdSocket, fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file="+identity.certPath, "--tls-private-key-file="+identity.keyPath,
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--token-auth-file="+identity.tokensPath,
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+identity.serviceAccountKeyPath,
		"--service-account-signing-key-file="+identity.serviceAccountKeyPath,
		"--service-cluster-ip-range="+serviceNetwork,
		"--profiling=false",
	)
}

// ready asks over the server's own certificate authority, so that another API server on the same port is not taken for it.
func ready(ctx context.Context, client *http.Client, address, token string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("make the readiness request: %w", err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask for readiness: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("read the readiness answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("readiness is %s: %s", response.Status, body)
	}
	return nil
}

func (i *identity) client() (*http.Client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(i.caPEM) {
		return nil, errors.New("read back the control plane's own CA certificate")
	}
	return &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			Proxy: nil, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		},
	}, nil
}

// FreePort is a port of 127.0.0.1 that nobody listens on at this moment. Another process may take it at the next: whoever starts
// a server on it must be ready to start it again on another.
func FreePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	address, ok := listener.Addr().(*net.TCPAddr)
	if err := listener.Close(); err != nil {
		return 0, fmt.Errorf("free the port again: %w", err)
	}
	if !ok {
		return 0, fmt.Errorf("find a free port: unexpected address %s", listener.Addr())
	}
	return address.Port, nil
}
