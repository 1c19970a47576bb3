// Package process runs the children of tests and of the demo so that none of them outlives its parent.
//
// A child gets its own process group, so that a terminal's Ctrl-C reaches only the parent, which then stops its children in the
// right order; and it gets SIGKILL when the parent dies, so that even a SIGKILL of the parent leaves nothing running.
package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Command says what to run. The log file is appended to, so that restarts of one program share it.
type Command struct {
	// Name is what errors call the program.
	Name string
	Path string
	Args []string
	// Env is added to the parent's environment.
	Env []string
	Dir string
	// LogPath receives standard output and standard error.
	LogPath string
	// Namespaces are the CLONE_NEW… flags of the namespaces that the child gets for itself; most need root.
	Namespaces uintptr
}

// Process is a running or ended child.
type Process struct {
	command Command
	cmd     *exec.Cmd
	done    chan struct{}
	waitErr error
}

// Start runs the command and returns when the program has been executed, not when it is ready.
func Start(command Command) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(command.LogPath), 0o755); err != nil {
		return nil, fmt.Errorf("create the log folder of %s: %w", command.Name, err)
	}
	log, err := os.OpenFile(command.LogPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", command.Name, err)
	}
	cmd := exec.Command(command.Path, command.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = command.Dir, log, log
	cmd.Env = append(os.Environ(), command.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: command.Namespaces}

	p := &Process{command: command, cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(log, started)
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start %s: %w", command.Name, err)
	}
	return p, nil
}

// run starts the child and waits for it on one locked thread: the kernel sends Pdeathsig when the *thread* that forked ends,
// and Go ends idle threads as it likes.
func (p *Process) run(log *os.File, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	defer log.Close()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.waitErr = p.cmd.Wait()
	}
}

// PID is the process id, which is also the id of the child's process group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and was waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// LogPath is the file that holds the child's output.
func (p *Process) LogPath() string { return p.command.LogPath }

// Err tells how an ended child ended, with the end of its log; it must not be called before Done is closed.
func (p *Process) Err() error {
	how := "exit status 0"
	if p.waitErr != nil {
		how = p.waitErr.Error()
	}
	return fmt.Errorf("%s ended (%s); the end of its log %s:\n%s", p.command.Name, how, p.command.LogPath, Tail(p.command.LogPath, 20))
}

// Kill sends SIGKILL and waits until the child is gone.
func (p *Process) Kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return nil
}

// Stop asks the child to end and, after the grace, kills its whole process group. It returns when the child is gone; how a
// child ends after it was asked to is not an error.
func (p *Process) Stop(grace time.Duration) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
	}
	select {
	case <-p.done: // both were ready, and the id may belong to somebody else by now
		return nil
	default:
	}
	if err := syscall.Kill(-p.PID(), syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill the process group of %s: %w", p.command.Name, err)
	}
	<-p.done
	return nil
}

func (p *Process) signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s: %w", sig, p.command.Name, err)
	}
	return nil
}
