package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/origin"
	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/proc"
)

// runner takes one tool through one run.
type runner struct {
	job    job
	tool   tool
	server *origin.Server
	env    []string

	usage proc.Usage
	// What a killed run had cost.
	sentBefore    int64
	socketsBefore int
}

func (r *runner) command(args []string) proc.Command {
	return proc.Command{Args: args, Env: r.env, Dir: r.job.dir, Watch: r.job.dir}
}

func (r *runner) step(ctx context.Context, command ...string) (string, error) {
	output, usage, err := proc.Run(ctx, r.command(command))
	r.usage.Add(usage)
	return output, err
}

// download takes a tool from its start to a verified, durable file under its final name.
func (r *runner) download(ctx context.Context) error {
	output, err := r.step(ctx, r.tool.command(r.job)...)
	if err != nil {
		return err
	}
	return r.finish(ctx, output)
}

// finish appends what the tool leaves undone.
func (r *runner) finish(ctx context.Context, output string) (err error) {
	if r.tool.publishes {
		return r.published()
	}
	if !r.tool.hashes {
		if output, err = r.step(ctx, "openssl", "dgst", "-sha256", r.job.out()); err != nil {
			return err
		}
	}
	if err := checkDigest(output, r.job.digest); err != nil {
		return err
	}
	if _, err := r.step(ctx, "sync", "-d", r.job.out()); err != nil {
		return err
	}
	if err := os.Rename(r.job.out(), filepath.Join(r.job.dir, "final")); err != nil {
		return fmt.Errorf("rename the file: %w", err)
	}
	return syncDir(r.job.dir)
}

// blob is where the engine publishes.
func (r *runner) blob() string {
	return filepath.Join(r.job.dir, "store", "blobs", "sha256", r.job.digest)
}

// checkBlob does not take the engine's word for the digest.
func (r *runner) checkBlob(ctx context.Context) error {
	output, err := r.step(ctx, "openssl", "dgst", "-sha256", r.blob())
	if err != nil {
		return err
	}
	return checkDigest(output, r.job.digest)
}

// published checks that what the engine says it did is there.
func (r *runner) published() error {
	path := r.blob()
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("look for the blob: %w", err)
	}
	if info.Size() != r.job.size {
		return fmt.Errorf("%s has %d bytes, not %d", path, info.Size(), r.job.size)
	}
	return nil
}

// checkDigest compares the last word that a tool printed.
func checkDigest(output, want string) error {
	words := strings.Fields(output)
	if len(words) == 0 || words[len(words)-1] != want {
		return fmt.Errorf("the digest is wrong: %q, want %s", output, want)
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("sync the directory: %w", err)
	}
	return nil
}

// killAndResume kills the tool once it has taken a fraction of the object, and runs it again.
func (r *runner) killAndResume(ctx context.Context, fraction float64) error {
	program, err := proc.Start(ctx, r.command(r.tool.command(r.job)))
	if err != nil {
		return err
	}
	ended := r.waitFor(ctx, program, int64(fraction*float64(r.job.size)))
	r.sentBefore, err = r.stopAndCount(program)
	err = errors.Join(err, program.Signal(syscall.SIGKILL))
	_, usage, waitErr := program.Wait()
	r.usage.Add(usage)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case ended:
		return fmt.Errorf("it ended before it could be killed: %w", waitErr)
	case err != nil:
		return fmt.Errorf("kill it: %w", err)
	}
	r.server.Settle(ctx)
	r.socketsBefore = r.server.Count().Sockets
	r.server.Reset()
	r.job.resume = true
	return r.download(ctx)
}

// waitFor returns when the server has sent so many bytes, or true when the program ended first.
func (r *runner) waitFor(ctx context.Context, program *proc.Program, bytes int64) bool {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for r.server.Count().Bytes < bytes {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
		if program.Ended() {
			return true
		}
	}
	return false
}

// stopAndCount freezes the program and tells what it has read by then, in bytes: what its kernel took, without what waits there.
func (r *runner) stopAndCount(program *proc.Program) (int64, error) {
	if err := program.Signal(syscall.SIGSTOP); err != nil {
		return 0, err
	}
	taken := r.server.Count().Bytes
	unread, err := proc.Unread(r.server.Port)
	return taken - unread, err
}
