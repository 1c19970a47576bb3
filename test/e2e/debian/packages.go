// Package debian gets what a test needs from the packages of a Debian system.
package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

// Need is a package and a file that it brings, by which one sees whether it is there.
type Need struct{ Package, File string }

// Missing are the packages whose file is not there.
func Missing(needs []Need) []string {
	var missing []string
	for _, need := range needs {
		if _, err := os.Stat(need.File); err != nil {
			missing = append(missing, need.Package)
		}
	}
	return missing
}

// Install installs packages without what they recommend, and without starting their services.
func Install(ctx context.Context, packages []string, output io.Writer) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("install %s: this is no Debian system, so install their like yourself", strings.Join(packages, " "))
	}
	restore, err := denyServices()
	if err != nil {
		return err
	}
	err = apt(ctx, output, "update")
	if err == nil {
		err = apt(ctx, output, append([]string{"install", "--yes", "--no-install-recommends"}, packages...)...)
	}
	return errors.Join(err, restore())
}

// policy is what packages ask before they start a service (Debian Policy 9.3.3.1); 101 is "no".
const policy = "/usr/sbin/policy-rc.d"

func denyServices() (restore func() error, err error) {
	if _, err := os.Lstat(policy); err == nil { // this system has a policy of its own
		return func() error { return nil }, nil
	}
	if err := os.WriteFile(policy, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return nil, fmt.Errorf("keep packages from starting services: %w", err)
	}
	return func() error { return os.Remove(policy) }, nil
}

func apt(ctx context.Context, output io.Writer, args ...string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"--quiet=2", "--option=Dpkg::Use-Pty=0", "--option=DPkg::Lock::Timeout=300"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = &said, &said
	fmt.Fprintln(output, "apt-get "+strings.Join(args, " "))
	if err := process.Run(cmd); err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", args[0], err, said.String())
	}
	return nil
}

// Unpack downloads a package and unpacks it into a folder, without installing it.
func Unpack(ctx context.Context, name, dir string) error {
	// apt would rather download as a user of its own, who may not write into the folder.
	download := exec.CommandContext(ctx, "apt-get", "--quiet=2", "--option=APT::Sandbox::User=root", "download", name)
	download.Dir = dir
	if out, err := download.CombinedOutput(); err != nil {
		return fmt.Errorf("download the package %s: %w: %s", name, err, out)
	}
	archives, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
	if err != nil || len(archives) != 1 {
		return fmt.Errorf("download the package %s: found %q (%w)", name, archives, err)
	}
	if out, err := exec.CommandContext(ctx, "dpkg-deb", "--extract", archives[0], dir).CombinedOutput(); err != nil {
		return fmt.Errorf("unpack the package %s: %w: %s", name, err, out)
	}
	return nil
}

// Depends is the first package that another one depends on: the real one behind one that only names the newest version. It gets the
// lists of packages where there are none.
func Depends(ctx context.Context, name string) (string, error) {
	ask := func() ([]byte, error) {
		return exec.CommandContext(ctx, "apt-cache", "depends", "--important", name).Output()
	}
	out, err := ask()
	if err != nil || !strings.Contains(string(out), "Depends:") {
		if err := apt(ctx, io.Discard, "update"); err != nil {
			return "", err
		}
		out, err = ask()
	}
	if err != nil {
		return "", fmt.Errorf("look for what %s depends on: %w", name, err)
	}
	for line := range strings.Lines(string(out)) {
		if dependency, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok {
			return dependency, nil
		}
	}
	return "", fmt.Errorf("look for what %s depends on: nothing", name)
}
