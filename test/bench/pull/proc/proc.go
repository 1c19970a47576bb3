// Package proc runs the programs of the bench and measures what they cost.
package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// outputLimit is how much a failure shows of what a program printed, in bytes.
const outputLimit = 4 << 10

// Usage is what programs cost, those that they started included.
type Usage struct {
	CPUSeconds float64
	// PeakRSS is the most resident memory at one time, in bytes, summed over the processes of a pipeline.
	PeakRSS int64
	// PeakDirty is the most data of files below Command.Watch that was in the page cache and not on the disk, in bytes. It is 0
	// where the kernel, before Linux 6.5, cannot tell.
	PeakDirty int64
}

// Add sums up two programs that ran one after the other.
func (u *Usage) Add(other Usage) {
	u.CPUSeconds += other.CPUSeconds
	u.PeakRSS = max(u.PeakRSS, other.PeakRSS)
	u.PeakDirty = max(u.PeakDirty, other.PeakDirty)
}

// Command is a program to run.
type Command struct {
	Args []string
	// Env comes on top of this process's own.
	Env []string
	Dir string
	// Watch, unless empty, is the directory below which PeakDirty is looked for.
	Watch string
}

// Program is a program that runs, as the leader of a process group of its own.
type Program struct {
	cmd     *exec.Cmd
	output  bytes.Buffer
	errors  bytes.Buffer
	sampler *sampler
}

// Start runs a command. When ctx ends, the program and all it started are killed.
func Start(ctx context.Context, command Command) (*Program, error) {
	p := &Program{cmd: exec.CommandContext(ctx, command.Args[0], command.Args[1:]...)}
	p.cmd.Dir, p.cmd.Env = command.Dir, append(os.Environ(), command.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.errors
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { return p.Signal(syscall.SIGKILL) }
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Args[0], err)
	}
	p.sampler = startSampler(p.cmd.Process.Pid, command.Watch)
	return p, nil
}

// Signal reaches the program and all that it started.
func (p *Program) Signal(signal syscall.Signal) error {
	err := syscall.Kill(-p.cmd.Process.Pid, signal)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

// Wait returns what the program printed on standard output. An error holds the rest of its output, too.
func (p *Program) Wait() (string, Usage, error) {
	err := p.cmd.Wait()
	usage := p.sampler.stop()
	if state := p.cmd.ProcessState; state != nil {
		usage.CPUSeconds = (state.UserTime() + state.SystemTime()).Seconds()
	}
	if err != nil {
		printed := bytes.TrimSpace(append(p.errors.Bytes(), p.output.Bytes()...))
		err = fmt.Errorf("%s: %w\n%s", strings.Join(p.cmd.Args, " "), err, printed[max(0, len(printed)-outputLimit):])
	}
	return p.output.String(), usage, err
}

// Run is Start and Wait.
func Run(ctx context.Context, command Command) (string, Usage, error) {
	p, err := Start(ctx, command)
	if err != nil {
		return "", Usage{}, err
	}
	return p.Wait()
}

// Ended tells whether the program has ended, and waits for Wait.
func (p *Program) Ended() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return true
	}
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return len(state) > 0 && state[0] == 'Z'
}
