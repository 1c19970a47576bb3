package controlplane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// BackUpEtcd copies the data of etcd as it is now, and returns the copy's folder.
func (c *ControlPlane) BackUpEtcd() (backup string, err error) {
	if c.etcd == nil {
		return "", errExternal
	}
	if backup, err = os.MkdirTemp(c.dir, "backup-"); err != nil {
		return "", fmt.Errorf("back up etcd: %w", err)
	}
	// What a stopped process has written is what a crash would leave, which etcd recovers from.
	if err := syscall.Kill(c.etcd.PID(), syscall.SIGSTOP); err != nil {
		return "", fmt.Errorf("halt etcd: %w", err)
	}
	err = os.CopyFS(filepath.Join(backup, etcdData), os.DirFS(filepath.Join(c.dir, etcdData)))
	if err = errors.Join(err, syscall.Kill(c.etcd.PID(), syscall.SIGCONT)); err != nil {
		return "", fmt.Errorf("back up etcd: %w", err)
	}
	return backup, nil
}

// RestoreEtcd puts a backup in the place of what etcd holds, while the API server is away. As after `etcdutl snapshot restore
// --bump-revision --mark-compacted`, revisions go on from where they were and older ones are compacted, so that no client
// takes its old view for a current one.
func (c *ControlPlane) RestoreEtcd(ctx context.Context, backup string) error {
	if c.etcd == nil {
		return errExternal
	}
	last, err := c.revision(ctx)
	if err != nil {
		return err
	}
	if err := c.etcd.Stop(stopGrace); err != nil {
		return err
	}
	data := filepath.Join(c.dir, etcdData)
	if err := os.RemoveAll(data); err != nil {
		return fmt.Errorf("restore etcd: %w", err)
	}
	if err := os.CopyFS(data, os.DirFS(filepath.Join(backup, etcdData))); err != nil {
		return fmt.Errorf("restore etcd: %w", err)
	}
	if err := os.Chmod(data, 0o700); err != nil { // etcd insists
		return fmt.Errorf("restore etcd: %w", err)
	}
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	for {
		revision, err := c.revision(ctx)
		if err != nil {
			return err
		}
		if revision > last {
			return c.ExpireRevisions(ctx)
		}
		for range last - revision + 1 {
			if err := c.advance(ctx); err != nil {
				return err
			}
		}
	}
}

// ExpireRevisions makes every resourceVersion that a client holds too old to watch from, once the API server is started anew.
func (c *ControlPlane) ExpireRevisions(ctx context.Context) error {
	if c.etcd == nil {
		return errExternal
	}
	if err := c.advance(ctx); err != nil {
		return err
	}
	revision, err := c.revision(ctx)
	if err != nil {
		return err
	}
	return c.askEtcd(ctx, "compaction", map[string]any{"revision": strconv.FormatInt(revision, 10), "physical": true}, nil)
}

// bumpKey is /cloudimage-test/bump, no object of Kubernetes, in base64.
const bumpKey = "L2Nsb3VkaW1hZ2UtdGVzdC9idW1w"

// advance makes one new revision.
func (c *ControlPlane) advance(ctx context.Context) error {
	return c.askEtcd(ctx, "put", map[string]any{"key": bumpKey, "value": ""}, nil)
}

func (c *ControlPlane) revision(ctx context.Context) (int64, error) {
	var answer struct {
		Header struct {
			Revision int64 `json:"revision,string"`
		} `json:"header"`
	}
	if err := c.askEtcd(ctx, "range", map[string]any{"key": bumpKey}, &answer); err != nil {
		return 0, err
	}
	return answer.Header.Revision, nil
}

// askEtcd uses the JSON gateway of etcd (https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/).
func (c *ControlPlane) askEtcd(ctx context.Context, operation string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("encode the question to etcd: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://etcd/v3/kv/"+operation, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask etcd: %w", err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(c.dir, etcdSocket))
	}}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask etcd to %s: %w", operation, err)
	}
	text, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return fmt.Errorf("read the answer of etcd: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask etcd to %s: %s: %s", operation, response.Status, text)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("read the answer of etcd: %w", err)
	}
	return nil
}
