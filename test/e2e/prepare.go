package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/debian"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/guest"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/image"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/machine"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/sandbox"
	"github.com/cloudimage-dev/cloudimage-operator/test/narrate"
)

// props are what the story needs from outside the sandbox, where the network is.
type props struct {
	Step       int
	Repository string
	Dir        string
	Cgroup     string
	// Archives are container images for every node.
	Archives []string
	// Guest is the image of the virtual machine, which says Greeting when it boots.
	Guest, Greeting string
}

const (
	// The two versions differ in nothing but their number.
	firstVersion, nextVersion = "v0.1.0-e2e.1", "v0.1.0-e2e.2"

	busyboxImage = "localhost/busybox:1"
	buildLimit   = 40 * time.Minute
)

// needs are Debian's packages. The first ones are of the nodes and what watches them, the others of the virtual machine and of the origin.
func needs() []debian.Need {
	return []debian.Need{
		{Package: "containerd", File: "/usr/bin/containerd"}, {Package: "runc", File: "/usr/sbin/runc"},
		{Package: "containernetworking-plugins", File: "/usr/lib/cni/bridge"}, {Package: "nftables", File: "/usr/sbin/nft"},
		{Package: "iptables", File: "/usr/sbin/iptables"}, {Package: "conntrack", File: "/usr/sbin/conntrack"},
		{Package: "iproute2", File: "/sbin/ip"}, {Package: "util-linux", File: "/usr/bin/nsenter"},
		{Package: "prometheus", File: "/usr/bin/promtool"},
		{Package: "nginx-light", File: "/usr/sbin/nginx"}, {Package: "busybox-static", File: "/bin/busybox"},
		{Package: "qemu-utils", File: "/usr/bin/qemu-img"}, {Package: "qemu-system-x86", File: "/usr/bin/qemu-system-x86_64"},
		{Package: "syslinux", File: "/usr/bin/syslinux"}, {Package: "mtools", File: "/usr/bin/mformat"}, {Package: "cpio", File: "/usr/bin/cpio"},
	}
}

// prepare returns the path of the written props.
func prepare(ctx context.Context, out *narrate.Printer, box *sandbox.Sandbox) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, buildLimit, fmt.Errorf("the preparation took longer than %s", buildLimit))
	defer cancel()
	out.Title("Get what is needed: Debian's packages, Kubernetes and Helm from Go modules, the container images, a disk that boots")
	repository, err := controlplane.Repository("")
	if err != nil {
		return "", err
	}
	p := props{Step: out.Step(), Repository: repository, Dir: box.Dir, Cgroup: box.Cgroup}
	for _, part := range []struct {
		what string
		make func() (string, error)
	}{
		{"packages", func() (string, error) { return getPackages(ctx, out) }},
		{"Kubernetes", func() (string, error) { return getKubernetes(ctx, out, repository) }},
		{"Helm", func() (string, error) { return getHelm(ctx, repository) }},
		{"picture", func() (string, error) { return getPicture(ctx, repository) }},
		{"images", func() (string, error) { return p.makeImages(ctx) }},
		{"guest", func() (string, error) { return p.makeGuest(ctx) }},
	} {
		begin := time.Now()
		what, err := part.make()
		if err != nil {
			return "", fmt.Errorf("get the %s: %w", part.what, err)
		}
		out.Held(time.Since(begin), "%s", what)
	}
	data, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode the props: %w", err)
	}
	path := filepath.Join(box.Dir, "props.json")
	return path, os.WriteFile(path, data, 0o600)
}

func getPackages(ctx context.Context, out *narrate.Printer) (string, error) {
	missing := debian.Missing(needs())
	if len(missing) > 0 {
		if err := debian.Install(ctx, missing, out.Output()); err != nil {
			return "", err
		}
	}
	if still := debian.Missing(needs()); len(still) > 0 {
		return "", fmt.Errorf("these packages are installed, but not as expected: %s", strings.Join(still, " "))
	}
	return fmt.Sprintf("%d of Debian's packages, %d of them installed now", len(needs()), len(missing)), nil
}

func getKubernetes(ctx context.Context, out *narrate.Printer, repository string) (string, error) {
	programs, err := controlplane.FindPrograms(ctx, controlplane.Options{Repository: repository, Output: out.Output(), Nodes: true})
	if err != nil {
		return "", err
	}
	version, err := exec.CommandContext(ctx, programs.Kubelet, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask the kubelet for its version: %w", err)
	}
	return strings.TrimSpace(string(version)) + " with etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy and kubectl", nil
}

// getHelm builds the Helm that the release tools pin.
func getHelm(ctx context.Context, repository string) (string, error) {
	err := goBuild(ctx, repository, filepath.Join("test", "tools", "release"), "helm.sh/helm/v4/cmd/helm")
	if err != nil {
		return "", err
	}
	version, err := exec.CommandContext(ctx, toolPath(repository, "helm"), "version", "--template={{.Version}}").Output()
	if err != nil {
		return "", fmt.Errorf("ask Helm for its version: %w", err)
	}
	return "Helm " + string(version), nil
}

// makeImages builds the images of two versions as a release does, the nodes' pause image, and one with a shell.
func (p *props) makeImages(ctx context.Context) (string, error) {
	if err := goBuild(ctx, p.Repository, filepath.Join("test", "tools", "release"), "."); err != nil {
		return "", err
	}
	for _, version := range []string{firstVersion, nextVersion} {
		to := toolPath(p.Repository, version)
		cmd := exec.CommandContext(ctx, toolPath(p.Repository, "release"), "-images-only",
			"-repository", p.Repository, "-out", to, "-version", version, "-platforms", "linux/"+runtime.GOARCH)
		if out, err := runQuietly(cmd); err != nil {
			return "", fmt.Errorf("build the images of %s: %w: %s", version, err, out)
		}
		archives, err := filepath.Glob(filepath.Join(to, "*.docker.tar"))
		if err != nil || len(archives) != 2 {
			return "", fmt.Errorf("build the images of %s: found %q (%w)", version, archives, err)
		}
		p.Archives = append(p.Archives, archives...)
	}
	if err := goBuild(ctx, p.Repository, ".", "./test/e2e/pause"); err != nil {
		return "", err
	}
	for _, one := range []image.Image{
		{Name: machine.PauseImage, Files: []image.File{{Path: "pause", Source: toolPath(p.Repository, "pause")}}, Entrypoint: []string{"/pause"}},
		{Name: busyboxImage, Files: []image.File{{Path: "bin/busybox", Source: "/bin/busybox"},
			{Path: "bin/sh", LinkTo: "busybox"}, {Path: "bin/sha256sum", LinkTo: "busybox"}, {Path: "bin/touch", LinkTo: "busybox"}},
			Entrypoint: []string{"/bin/sh", "-c"}},
	} {
		path := filepath.Join(p.Dir, filepath.Base(strings.ReplaceAll(one.Name, ":", "-"))+".tar")
		if err := image.Write(path, one); err != nil {
			return "", err
		}
		p.Archives = append(p.Archives, path)
	}
	return fmt.Sprintf("%d container images: manager and agent in two versions, pause, busybox", len(p.Archives)), nil
}

func (p *props) makeGuest(ctx context.Context) (string, error) {
	dir := filepath.Join(p.Dir, "guest")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", fmt.Errorf("make a folder for the guest: %w", err)
	}
	p.Guest, p.Greeting = filepath.Join(dir, "guest.qcow2"), fmt.Sprintf("hello-%06d", rand.IntN(1e6)) //nolint:gosec // no secret
	if err := guest.MakeDisk(ctx, dir, toolPath(p.Repository, "kernel"), p.Guest, p.Greeting); err != nil {
		return "", err
	}
	info, err := os.Stat(p.Guest)
	if err != nil {
		return "", fmt.Errorf("look at the guest's disk: %w", err)
	}
	return fmt.Sprintf("a bootable qcow2 image of %.1f MiB with Debian's kernel, which says %q", float64(info.Size())/mib, p.Greeting), nil
}

// toolPath is where what is built here lies. It stays there, so that the next run has less to build.
func toolPath(repository, name string) string {
	return filepath.Join(repository, "bin", "e2e-tools") + string(filepath.Separator) + name
}

// goBuild builds a package of a module in the repository, with the flags of whoever else builds it, so that compiled packages are shared.
func goBuild(ctx context.Context, repository, module, pkg string) error {
	if err := os.MkdirAll(toolPath(repository, ""), 0o755); err != nil {
		return fmt.Errorf("make a folder for programs: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(repository, module), "-o", toolPath(repository, ""), pkg)
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	if out, err := runQuietly(cmd); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, out)
	}
	return nil
}

// runQuietly returns what the command printed, for an error.
func runQuietly(cmd *exec.Cmd) (string, error) {
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = io.Writer(&said), io.Writer(&said)
	err := process.Run(cmd)
	return said.String(), err
}
