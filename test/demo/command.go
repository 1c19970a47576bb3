package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
	"github.com/cloudimage-dev/cloudimage-operator/test/narrate"
)

// show prints a command line as typed, runs exactly that with bash, and prints what it printed.
func (s *story) show(ctx context.Context, line string) (string, error) {
	s.out.Command(line)
	return s.bash(ctx, line, s.out.Output())
}

// ask runs a command line without showing it.
func (s *story) ask(ctx context.Context, line string) (string, error) {
	return s.bash(ctx, line, nil)
}

func (s *story) bash(ctx context.Context, line string, echo *narrate.Output) (string, error) {
	var output bytes.Buffer
	cmd := s.command(ctx, line)
	cmd.Stdout = &output
	if echo != nil {
		cmd.Stdout = io.MultiWriter(&output, echo)
		defer echo.Flush()
	}
	cmd.Stderr = cmd.Stdout
	if err := process.Run(cmd); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return output.String(), fmt.Errorf("`%s`: %w: %s", line, err, lastLine(output.String()))
	}
	return strings.TrimSpace(output.String()), nil
}

// command has the environment that the story tells a person to export.
func (s *story) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", line)
	cmd.Dir = s.repository
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.plane.KubeconfigPath, "PATH="+s.path())
	return cmd
}

// watch shows what a command prints while body runs, as a second terminal would.
func (s *story) watch(ctx context.Context, line string, body func() error) error {
	s.out.Command(line + " &")
	watching, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		echo := s.out.Output()
		cmd := s.command(watching, line)
		cmd.Stdout, cmd.Stderr = echo, echo
		// It is cut off when the body is through, so how it ends says nothing.
		_ = process.Run(cmd)
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
