package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"k8s.io/client-go/rest"
)

// errExternal is the answer to a test that wants to break an API server which is not its own.
var errExternal = errors.New("the API server of KUBECONFIG is left alone")

// KillAPIServer takes the API server away as a crash does. etcd goes on.
func (c *ControlPlane) KillAPIServer() error {
	if c.apiserver == nil {
		return errExternal
	}
	return c.apiserver.Kill()
}

// StartAPIServer starts the API server again after KillAPIServer, at its old address, with flags besides the usual ones.
func (c *ControlPlane) StartAPIServer(ctx context.Context, flags ...string) error {
	if c.apiserver == nil {
		return errExternal
	}
	host, err := url.Parse(c.Config.Host)
	if err != nil {
		return fmt.Errorf("read the API server's address: %w", err)
	}
	port, err := strconv.Atoi(host.Port())
	if err != nil {
		return fmt.Errorf("read the API server's port: %w", err)
	}
	for attempt := 1; ; attempt++ {
		c.apiserver, err = c.runAPIServer(ctx, "kube-apiserver", port, flags...)
		// Somebody's connection may have got the free port for a moment.
		if err == nil || attempt == apiServerAttempts || !strings.Contains(err.Error(), "address already in use") {
			return err
		}
	}
}

// OtherAPIServer starts a second API server on the same etcd, for changes that no client of the first one may see. The caller
// must call stop.
func (c *ControlPlane) OtherAPIServer(ctx context.Context) (config *rest.Config, stop func() error, err error) {
	if c.apiserver == nil {
		return nil, nil, errExternal
	}
	port, err := FreePort()
	if err != nil {
		return nil, nil, err
	}
	p, err := c.runAPIServer(ctx, "kube-apiserver-2", port)
	if err != nil {
		if p != nil {
			err = errors.Join(err, p.Kill())
		}
		return nil, nil, err
	}
	return c.configFor(port), func() error { return p.Stop(stopGrace) }, nil
}
