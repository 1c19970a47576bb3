package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

// Binaries are the paths of the programs under test.
type Binaries struct{ Manager, NodeAgent string }

// BuildOptions say how to build them.
type BuildOptions struct {
	// Repository is the folder of the project's go.mod; found from the working folder upward when empty.
	Repository string
	// Dir receives the programs.
	Dir string
	// Race builds them with the race detector, which needs a C compiler.
	Race bool
	// Output receives the compiler's messages; discarded when nil.
	Output io.Writer
}

// Build builds manager and node-agent from the checkout.
func Build(ctx context.Context, options BuildOptions) (Binaries, error) {
	repository, err := controlplane.Repository(options.Repository)
	if err != nil {
		return Binaries{}, err
	}
	if err := noteSources(repository); err != nil {
		return Binaries{}, err
	}
	// The same flags as `go test` and `go build` without any, so that compiled dependencies are shared with whoever calls this.
	args := []string{"build", "-C", repository, "-o", options.Dir + string(filepath.Separator)}
	if options.Race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/manager", "./cmd/node-agent")...)
	cmd.Stdout, cmd.Stderr = options.Output, options.Output
	if err := process.Run(cmd); err != nil {
		return Binaries{}, fmt.Errorf("build manager and node-agent: %w", err)
	}
	return Binaries{
		Manager:   filepath.Join(options.Dir, "manager"),
		NodeAgent: filepath.Join(options.Dir, "node-agent"),
	}, nil
}

// noteSources looks at every file that the programs and their manifests are made of. `go test` notes what a test looks at and runs
// a cached test again when that has changed; what its children read it cannot see.
func noteSources(repository string) error {
	for _, folder := range []string{"api", "cmd", "config", "internal", "go.mod", "go.sum"} {
		err := filepath.WalkDir(filepath.Join(repository, folder), func(path string, _ fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // another process's temporary file
			}
			if err == nil {
				_, err = os.Stat(path)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("look at the sources: %w", err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
