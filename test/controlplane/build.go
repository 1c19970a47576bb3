package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

// target is one program of the recipe.
type target struct {
	name, pkg string
	flags     []string
	// takes is how long it takes from an empty Go build cache on two cores, for the person who waits.
	takes string
}

func (r recipe) targets() []target {
	major, minor, _ := strings.Cut(strings.TrimPrefix(r.version, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	const version = "k8s.io/component-base/version."
	// Clients complain about a server that does not tell its version.
	stamped := []string{"-trimpath", "-ldflags", fmt.Sprintf("-s -w -X %[1]sgitVersion=%[2]s -X %[1]sgitMajor=%[3]s -X %[1]sgitMinor=%[4]s",
		version, r.version, major, minor)}
	return []target{
		{name: "etcd", pkg: "go.etcd.io/etcd/server/v3", flags: []string{"-trimpath", "-ldflags", "-s -w"}, takes: "10 seconds"},
		{name: "kube-apiserver", pkg: "k8s.io/kubernetes/cmd/kube-apiserver", flags: stamped, takes: "5 minutes"},
		{name: "kubectl", pkg: "k8s.io/kubernetes/cmd/kubectl", flags: stamped, takes: "1 minute"},
	}
}

// cached returns the programs below root, after building them if no earlier run did. A folder appears there by rename only, when it
// is whole; a lock keeps two runs from doing five minutes of work twice.
func (r recipe) cached(ctx context.Context, root string, output io.Writer) (Programs, error) {
	if output == nil {
		output = io.Discard
	}
	final := filepath.Join(root, r.key())
	if programs, err := programsIn(final); err == nil {
		return programs, nil
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return Programs{}, fmt.Errorf("create the cache folder: %w", err)
	}
	unlock, err := lock(ctx, final+".lock", output)
	if err != nil {
		return Programs{}, err
	}
	defer unlock()
	if programs, err := programsIn(final); err == nil { // built by the one that held the lock
		return programs, nil
	}
	if err := r.build(ctx, final, output); err != nil {
		return Programs{}, err
	}
	return programsIn(final)
}

// build must be called with the lock held.
func (r recipe) build(ctx context.Context, final string, output io.Writer) error {
	partial := final + ".partial"
	for _, dir := range []string{partial, final} { // left by a killed build; emptied by hand
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove an incomplete build: %w", err)
		}
	}
	for _, target := range r.targets() {
		fmt.Fprintf(output, "building %s for Kubernetes %s, once, up to %s on 2 cores…\n", target.name, r.version, target.takes)
		start := time.Now()
		args := append([]string{"build", "-C", r.module, "-o", filepath.Join(partial, target.name)}, target.flags...)
		cmd := exec.CommandContext(ctx, "go", append(args, target.pkg)...)
		cmd.Env, cmd.Stdout, cmd.Stderr = r.environment(), output, output
		if err := process.Run(cmd); err != nil {
			return errors.Join(fmt.Errorf("build %s: %w", target.name, err), os.RemoveAll(partial))
		}
		fmt.Fprintf(output, "built %s in %s\n", target.name, time.Since(start).Round(time.Second))
	}
	if err := os.Rename(partial, final); err != nil {
		return fmt.Errorf("publish the built programs: %w", err)
	}
	return nil
}

// lock takes an exclusive lock that the kernel drops when this process ends, however it ends.
func lock(ctx context.Context, path string, output io.Writer) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the build: %w", err)
	}
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for attempt := 0; ; attempt++ {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		if attempt == 0 {
			fmt.Fprintln(output, "waiting for another process that builds Kubernetes…")
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for the build of another process: %w", ctx.Err()), file.Close())
		case <-ticker.C:
		}
	}
}
