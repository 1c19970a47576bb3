package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

// target is one program of the recipe.
type target struct {
	name, pkg string
	// nodes marks what only a cluster with kubelets needs.
	nodes bool
}

func targets() []target {
	return []target{
		{name: "etcd", pkg: "go.etcd.io/etcd/server/v3"},
		{name: "kube-apiserver", pkg: "k8s.io/kubernetes/cmd/kube-apiserver"},
		{name: "kubectl", pkg: "k8s.io/kubernetes/cmd/kubectl"},
		{name: "kube-controller-manager", pkg: "k8s.io/kubernetes/cmd/kube-controller-manager", nodes: true},
		{name: "kube-scheduler", pkg: "k8s.io/kubernetes/cmd/kube-scheduler", nodes: true},
		{name: "kubelet", pkg: "k8s.io/kubernetes/cmd/kubelet", nodes: true},
		{name: "kube-proxy", pkg: "k8s.io/kubernetes/cmd/kube-proxy", nodes: true},
	}
}

// built is the name that `go build` gives to the program: the last element of its package's path that is not a version.
func (t target) built() string {
	if dir, last := path.Split(t.pkg); last == "v3" {
		return path.Base(dir)
	}
	return path.Base(t.pkg)
}

// flags stamp the version, because clients complain about a server that does not tell it. To etcd they mean nothing.
func (r recipe) flags() []string {
	major, minor, _ := strings.Cut(strings.TrimPrefix(r.version, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	const version = "k8s.io/component-base/version."
	return []string{"-trimpath", "-ldflags", fmt.Sprintf("-s -w -X %[1]sgitVersion=%[2]s -X %[1]sgitMajor=%[3]s -X %[1]sgitMinor=%[4]s",
		version, r.version, major, minor)}
}

// cached returns the programs below root, after building those that no earlier run did. A program appears there by rename only, when
// it is whole; a lock keeps two runs from doing five minutes of work twice.
func (r recipe) cached(ctx context.Context, root string, options Options) (Programs, error) {
	if options.Output == nil {
		options.Output = io.Discard
	}
	dir := filepath.Join(root, r.key())
	if programs, err := programsIn(dir, options.Nodes); err == nil {
		return programs, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Programs{}, fmt.Errorf("create the cache folder: %w", err)
	}
	unlock, err := lock(ctx, dir+".lock", options.Output)
	if err != nil {
		return Programs{}, err
	}
	defer unlock()
	if err := r.build(ctx, dir, missing(dir, options.Nodes), options.Output); err != nil {
		return Programs{}, err
	}
	return programsIn(dir, options.Nodes)
}

func missing(dir string, nodes bool) []target {
	return slices.DeleteFunc(targets(), func(t target) bool {
		_, err := exec.LookPath(filepath.Join(dir, t.name))
		return err == nil || t.nodes && !nodes
	})
}

// build must be called with the lock held. One `go build` makes all of them, because they share most of their packages.
func (r recipe) build(ctx context.Context, dir string, missing []target, output io.Writer) error {
	if len(missing) == 0 { // built by the one that held the lock
		return nil
	}
	partial := dir + ".partial"
	if err := os.RemoveAll(partial); err != nil { // left by a killed build
		return fmt.Errorf("remove an incomplete build: %w", err)
	}
	args := append([]string{"build", "-C", r.module, "-o", partial + string(filepath.Separator)}, r.flags()...)
	var names []string
	for _, target := range missing {
		names, args = append(names, target.name), append(args, target.pkg)
	}
	fmt.Fprintf(output, "building %s of Kubernetes %s, once, about %s on 2 cores…\n", strings.Join(names, ", "), r.version, takes(missing))
	start := time.Now()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = r.environment(), output, output
	if err := process.Run(cmd); err != nil {
		return errors.Join(fmt.Errorf("build %s: %w", strings.Join(names, ", "), err), os.RemoveAll(partial))
	}
	fmt.Fprintf(output, "built them in %s\n", time.Since(start).Round(time.Second))
	for _, target := range missing {
		if err := os.Rename(filepath.Join(partial, target.built()), filepath.Join(dir, target.name)); err != nil {
			return fmt.Errorf("publish the built programs: %w", err)
		}
	}
	if err := os.Remove(partial); err != nil {
		return fmt.Errorf("remove the folder of the build: %w", err)
	}
	return nil
}

// takes tells how long a build takes from an empty Go build cache, for the person who waits.
func takes(missing []target) string {
	if slices.ContainsFunc(missing, func(t target) bool { return t.name == "kube-apiserver" }) {
		return "6 minutes"
	}
	return "2 minutes"
}

// lock takes an exclusive lock that the kernel drops when this process ends, however it ends.
func lock(ctx context.Context, name string, output io.Writer) (unlock func(), err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
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
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), file.Close())
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
