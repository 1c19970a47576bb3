package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// platform is an operating system and an architecture in Go's words, which are those of the OCI specification.
type platform struct{ os, architecture string }

// builder writes artefacts of one version.
type builder struct {
	repository, out, version string
	source                   source
}

// source is what the artefacts are made of.
type source struct {
	revision string
	// created is the time of the commit, or SOURCE_DATE_EPOCH (reproducible-builds.org), never that of the build.
	created time.Time
}

// describeSource asks git, unless there is none and SOURCE_DATE_EPOCH says the time: from an archive of the sources.
func describeSource(ctx context.Context, repository string) (source, error) {
	s := source{revision: "unknown"}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	commit, err := output(ctx, "git", "-C", repository, "log", "-1", "--format=%H %ct")
	if err != nil && epoch == "" {
		return s, fmt.Errorf("find the commit (or set SOURCE_DATE_EPOCH): %w", err)
	}
	if err == nil {
		revision, committed, _ := strings.Cut(commit, " ")
		changes, err := output(ctx, "git", "-C", repository, "status", "--porcelain")
		if err != nil {
			return s, fmt.Errorf("look for uncommitted changes: %w", err)
		}
		s.revision = revision
		if changes != "" {
			s.revision += "-dirty"
		}
		if epoch == "" {
			epoch = committed
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return s, fmt.Errorf("read the time of the sources: %w", err)
	}
	s.created = time.Unix(seconds, 0).UTC()
	return s, nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// binaryPath is where the program of a platform lies among the artefacts.
func (b *builder) binaryPath(program string, p platform) string {
	return filepath.Join(b.out, fmt.Sprintf("%s-%s-%s-%s", program, b.version, p.os, p.architecture))
}

// binary compiles one program of cmd/, static and without anything of this machine in it.
func (b *builder) binary(ctx context.Context, program string, p platform) (string, error) {
	path, err := filepath.Abs(b.binaryPath(program, p))
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-C", b.repository, "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+b.version, "-o", path, "./cmd/"+program)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=", "GOEXPERIMENT=",
		"GOAMD64=v1", "GOARM64=v8.0", "GOOS="+p.os, "GOARCH="+p.architecture)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s for %s/%s: %w", program, p.os, p.architecture, err)
	}
	return path, nil
}

// plugin builds kubectl-cloudimage, if this version has it, also for people's laptops.
func (b *builder) plugin(ctx context.Context, platforms []platform) error {
	const name = "kubectl-cloudimage"
	if _, err := os.Stat(filepath.Join(b.repository, "cmd", name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, platform := range append(slices.Clone(platforms), platform{"darwin", "amd64"}, platform{"darwin", "arm64"}) {
		path, err := b.binary(ctx, name, platform)
		if err != nil {
			return err
		}
		if err := b.bill(path); err != nil {
			return err
		}
	}
	return nil
}
