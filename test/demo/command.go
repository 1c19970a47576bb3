package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// show prints a command line as typed, runs exactly that with bash, and prints what it printed.
func (s *story) show(ctx context.Context, line string) (string, error) {
	s.out.command(line)
	return s.bash(ctx, line, &indented{printer: s.out})
}

// ask runs a command line without showing it.
func (s *story) ask(ctx context.Context, line string) (string, error) {
	return s.bash(ctx, line, nil)
}

func (s *story) bash(ctx context.Context, line string, echo *indented) (string, error) {
	var output bytes.Buffer
	cmd := s.command(ctx, line)
	cmd.Stdout = &output
	if echo != nil {
		cmd.Stdout = io.MultiWriter(&output, echo)
		defer echo.flush()
	}
	cmd.Stderr = cmd.Stdout
	// The kernel kills the child when the thread that started it ends, so this thread must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return output.String(), fmt.Errorf("`%s`: %w: %s", line, err, lastLine(output.String()))
	}
	return strings.TrimSpace(output.String()), nil
}

// command ends with all its children, when the context does or when this process does.
func (s *story) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", line)
	cmd.Dir = s.repository
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.plane.KubeconfigPath, "PATH="+s.path())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// watch shows what a command prints while body runs, as a second terminal would.
func (s *story) watch(ctx context.Context, line string, body func() error) error {
	s.out.command(line + " &")
	watching, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		echo := &indented{printer: s.out}
		cmd := s.command(watching, line)
		cmd.Stdout, cmd.Stderr = echo, echo
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		// It is cut off when the body is through, so how it ends says nothing.
		_ = cmd.Run()
	}()
	err := body()
	cancel()
	<-ended
	return err
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
