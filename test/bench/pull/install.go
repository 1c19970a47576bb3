package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cloudimage-dev/cloudimage-operator/test/bench/pull/proc"
)

// packages tells the Debian package of each program that is not built here.
var packages = map[string]string{
	"aria2c": "aria2", "axel": "axel", "curl": "curl", "openssl": "openssl", "bash": "bash", "tee": "coreutils", "sync": "coreutils",
}

// prepare installs and builds the tools.
func prepare(ctx context.Context, c config) error {
	if err := install(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(c.bin, 0o755); err != nil {
		return fmt.Errorf("make room for the programs: %w", err)
	}
	module := filepath.Join(c.repo, "test", "bench", "pull")
	for _, build := range [][]string{
		{"go", "-C", c.repo, "build", "-trimpath", "-o", c.bin + "/", "./cmd/node-agent", "./test/bench/nodepulls"},
		{"go", "-C", module, "build", "-trimpath", "-o", c.bin + "/", "./equalranges", "./rclone"},
	} {
		if _, _, err := proc.Run(ctx, proc.Command{Args: build, Env: []string{"CGO_ENABLED=0"}}); err != nil {
			return fmt.Errorf("build the tools: %w", err)
		}
	}
	return nil
}

func install(ctx context.Context) error {
	var missing []string
	for program, pkg := range packages {
		if _, err := exec.LookPath(program); err != nil && !slices.Contains(missing, pkg) {
			missing = append(missing, pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("the tools to compare with are not all here; install the packages (Debian's names): %s", strings.Join(missing, " "))
	}
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	command := proc.Command{Args: append([]string{"apt-get", "install", "--yes", "--no-install-recommends"}, missing...), Env: env}
	if _, _, err := proc.Run(ctx, command); err == nil {
		return nil
	}
	// The lists of packages may be missing or old.
	if _, _, err := proc.Run(ctx, proc.Command{Args: []string{"apt-get", "update"}, Env: env}); err != nil {
		return fmt.Errorf("install the tools: %w", err)
	}
	if _, _, err := proc.Run(ctx, command); err != nil {
		return fmt.Errorf("install the tools: %w", err)
	}
	return nil
}
