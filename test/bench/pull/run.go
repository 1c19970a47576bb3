package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/origin"
	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/proc"
	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/relay"
)

// sample is what one run showed.
type sample struct {
	seconds float64
	sent    int64 // bytes
	sockets int
	usage   proc.Usage
	// capped: it was stopped after so many seconds.
	capped bool
}

// bench is what all runs share.
type bench struct {
	config  config
	base    string                  // a new directory on the disk
	objects map[int64]origin.Object // by size in bytes
	parts   []origin.Object         // of manyPulls
	tls     *tls.Config
	caPEM   []byte
	caFile  string
}

// object is what a scenario's tools download.
func (b *bench) object(s scenario) origin.Object { return b.objects[s.size(b.config.size)] }

// objectPath is where servers have the object.
const objectPath = "/image"

// network starts what a scenario's tools talk to, and tells the URL of its root.
func (b *bench) network(s scenario, pace *origin.Pace) (server *origin.Server, url string, stop func() error, err error) {
	options := origin.Options{Pace: pace}
	if s.tls {
		options.TLS = b.tls
	}
	objects := map[string]origin.Object{objectPath: b.object(s)}
	for i, part := range b.parts {
		objects[fmt.Sprintf("/part-%d", i)] = part
	}
	if server, err = origin.Start(objects, options); err != nil {
		return nil, "", nil, err
	}
	if !s.relay {
		return server, server.URL, server.Close, nil
	}
	far, err := relay.Start(strings.TrimPrefix(server.URL, "http://"), roundTrip, window)
	if err != nil {
		return nil, "", nil, errors.Join(err, server.Close())
	}
	return server, "http://" + far.Address, func() error { return errors.Join(far.Close(), server.Close()) }, nil
}

// task is what differs between the runs of a tool in a scenario.
type task struct {
	fraction float64       // of the object, where it is killed, if it is
	limit    time.Duration // stops it
	check    bool          // hash what it published, after the time is taken
}

// run lets a tool do a scenario once.
func (b *bench) run(ctx context.Context, s scenario, t tool, now task) (result sample, err error) {
	server, url, stop, err := b.network(s, s.pace)
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	dir, err := os.MkdirTemp(b.base, "run-")
	if err != nil {
		return sample{}, fmt.Errorf("make room for a run: %w", err)
	}
	defer func() { err = errors.Join(err, b.clean(dir)) }()
	object := b.object(s)
	r := &runner{job: job{url: url + objectPath, size: object.Size, dir: dir, digest: object.Digest}, tool: t, server: server, env: environment(dir, "")}
	if s.tls {
		r.job.caFile, r.env = b.caFile, environment(dir, b.caFile)
	}
	limited, cancel := context.WithTimeout(ctx, now.limit)
	defer cancel()
	began := time.Now()
	switch s.kind {
	case plain:
		err = r.download(limited)
	case killed:
		err = r.killAndResume(limited, now.fraction)
	case many:
		err = r.pullMany(limited, b, url)
	}
	result = sample{seconds: time.Since(began).Seconds(), usage: r.usage}
	if ctx.Err() == nil && limited.Err() != nil {
		result.capped, err = true, nil
	}
	if err == nil && now.check && t.publishes && !result.capped && s.kind != many {
		err = r.checkBlob(ctx)
	}
	if err != nil {
		return sample{}, fmt.Errorf("%s in %s: %w", t.name, s.name, err)
	}
	server.Settle(ctx)
	count := server.Count()
	result.sent, result.sockets = count.Bytes+r.sentBefore, count.Sockets+r.socketsBefore
	return result, nil
}

// clean removes a run's files, and leaves the next run a disk with nothing to do.
func (b *bench) clean(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	base, err := os.Open(b.base)
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	defer base.Close()
	if err := unix.Syncfs(int(base.Fd())); err != nil {
		return fmt.Errorf("sync the filesystem: %w", err)
	}
	return nil
}

// environment keeps a user's configuration and proxies away from the tools.
func environment(dir, caFile string) []string {
	env := []string{"HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "no_proxy=*", "NO_PROXY=*", "LC_ALL=C"}
	if caFile != "" {
		env = append(env, "SSL_CERT_FILE="+caFile)
	}
	return env
}

// checkDisk refuses what would make syncing free.
func checkDisk(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if fs.Type == unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is in memory, where stable storage costs nothing: name a directory on a disk with -dir", filepath.Clean(dir))
	}
	return nil
}
