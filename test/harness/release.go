package harness

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

// ErrNoCommit says that a checkout does not hold a commit, as one that was cloned without its history.
var ErrNoCommit = errors.New("the checkout does not hold the commit")

// Release is a version of the operator: its programs, and the folder with its manifests.
type Release struct {
	Binaries   Binaries
	Repository string
}

// BuildRelease builds manager and node-agent of a commit below options.Dir, from the history of the repository that options name;
// ErrNoCommit if that is not there.
func BuildRelease(ctx context.Context, commit string, options BuildOptions) (Release, error) {
	repository, err := controlplane.Repository(options.Repository)
	if err != nil {
		return Release{}, err
	}
	if err := process.Run(exec.CommandContext(ctx, "git", "-C", repository, "cat-file", "-e", commit+"^{commit}")); err != nil {
		return Release{}, fmt.Errorf("%w %s: %w", ErrNoCommit, commit, err)
	}
	var archive bytes.Buffer
	git := exec.CommandContext(ctx, "git", "-C", repository, "archive", "--format=zip", commit)
	git.Stdout, git.Stderr = &archive, options.Output
	if err := process.Run(git); err != nil {
		return Release{}, fmt.Errorf("read the commit %s: %w", commit, err)
	}
	files, err := zip.NewReader(bytes.NewReader(archive.Bytes()), int64(archive.Len()))
	if err != nil {
		return Release{}, fmt.Errorf("read the commit %s: %w", commit, err)
	}
	release := Release{Repository: filepath.Join(options.Dir, "source")}
	if err := os.CopyFS(release.Repository, files); err != nil {
		return Release{}, fmt.Errorf("write out the commit %s: %w", commit, err)
	}
	options.Repository, options.Dir = release.Repository, filepath.Join(options.Dir, "bin")
	if err := os.MkdirAll(options.Dir, 0o755); err != nil {
		return Release{}, fmt.Errorf("make a folder for the programs of %s: %w", commit, err)
	}
	release.Binaries, err = Build(ctx, options)
	return release, err
}
