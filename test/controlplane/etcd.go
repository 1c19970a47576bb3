package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

const (
	etcdSocket = "etcd.sock"
	etcdData   = "etcd"
	// nowhere is what the only member of an etcd cluster advertises: the flag must have a port, and nobody ever dials it.
	nowhere     = "http://127.0.0.1:1"
	etcdTimeout = 30 * time.Second
)

// startEtcd listens on sockets in the control plane's folder: no port can collide and no other user can read the Secrets. Their
// names are relative because a socket's path must be shorter than 108 bytes, and a temporary folder's may not be.
func (c *ControlPlane) startEtcd(ctx context.Context) error {
	p, err := process.Start(process.Command{
		Name: "etcd", Path: c.Programs.Etcd, Dir: c.dir, LogPath: filepath.Join(c.dir, "etcd.log"),
		Args: []string{
			"--name=default", "--data-dir=" + etcdData, "--log-level=warn",
			"--unsafe-no-fsync", // the data is thrown away, and a fsync an update is most of a test's time
			"--listen-client-urls=unix://" + etcdSocket, "--advertise-client-urls=" + nowhere,
			"--listen-peer-urls=unix://etcd-peer.sock", "--initial-advertise-peer-urls=" + nowhere,
			"--initial-cluster=default=" + nowhere,
		},
	})
	if err != nil {
		return err
	}
	c.etcd = p
	return waitFor(ctx, p, etcdTimeout, c.dialEtcd)
}

func (c *ControlPlane) dialEtcd(ctx context.Context) error {
	path := filepath.Join(c.dir, etcdSocket)
	if len(path) >= 108 {
		return nil // cannot be dialled from here; the API server tries again by itself
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("connect to etcd: %w", err)
	}
	return conn.Close()
}

// waitFor repeats the check until it succeeds, the process ends, or the time is over.
func waitFor(ctx context.Context, p *process.Process, limit time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.Done():
			return p.Err()
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) { // somebody changed their mind: the log has nothing to tell
				return fmt.Errorf("wait until it is ready: %w", context.Cause(ctx))
			}
			return fmt.Errorf("wait until it is ready: %w (last: %w); the end of its log %s:\n%s",
				ctx.Err(), err, p.LogPath(), process.Tail(p.LogPath(), 20))
		case <-ticker.C:
		}
	}
}
