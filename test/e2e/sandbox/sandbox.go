// Package sandbox runs a program where it can leave nothing behind: in process, mount and network namespaces of its own, so that the
// kernel ends all that it started together with it. What namespaces do not cover, its folder and its cgroups, is removed afterwards,
// and then this machine is searched for what might be left all the same.
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/scratch"
	"github.com/cloudimage-dev/cloudimage-operator/test/e2e/machine"
)

const (
	// stopGrace is how long the program may take to end after it was asked to.
	stopGrace = 20 * time.Second
	// settle is how long the kernel may take to forget ended processes.
	settle = 20 * time.Second
	kind   = "e2e"
)

// Sandbox is a folder, a cgroup and what this machine looked like before.
type Sandbox struct {
	// Dir is the folder, which temporary files of the program lie in, too.
	Dir string
	// Cgroup is the path of a cgroup in every hierarchy.
	Cgroup string

	folder *scratch.Dir
	before snapshot
}

// New removes what a killed run could not, and makes a sandbox.
func New() (*Sandbox, error) {
	before, err := look()
	if err != nil {
		return nil, err
	}
	folder, err := scratch.New(kind)
	if err != nil {
		return nil, err
	}
	s := &Sandbox{Dir: folder.Path, Cgroup: "/" + filepath.Base(folder.Path), folder: folder, before: before}
	err = errors.Join(sweep(), os.Mkdir(filepath.Join(s.Dir, "tmp"), 0o755), machine.MakeCgroup(s.Cgroup))
	if err != nil {
		return nil, errors.Join(err, s.Remove())
	}
	return s, nil
}

// sweep removes the cgroups whose folders are gone.
func sweep() error {
	names, err := machine.FindCgroups("cloudimage-" + kind + "-")
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(os.TempDir(), name)); errors.Is(err, os.ErrNotExist) {
			errs = append(errs, machine.RemoveCgroup("/"+name, settle))
		}
	}
	return errors.Join(errs...)
}

// Run runs a subcommand of this program in the sandbox and returns its exit code. When the context ends, the program is asked to end.
func (s *Sandbox) Run(ctx context.Context, args ...string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("find this program: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(s.Dir, "tmp"))
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	runtime.LockOSThread() // Pdeathsig comes when the thread ends that started the program
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return ended.ExitCode(), nil
	}
	if err != nil && ctx.Err() == nil {
		return 0, fmt.Errorf("run the sandbox: %w", err)
	}
	return 0, nil
}

// Enter is what the program in the sandbox does first: its own processes are all that it sees.
func Enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// Remove removes the cgroups and the folder.
func (s *Sandbox) Remove() error {
	return errors.Join(machine.RemoveCgroup(s.Cgroup, settle), s.folder.Remove())
}
