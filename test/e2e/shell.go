package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
	"github.com/cloudimage-dev/cloudimage-operator/test/narrate"
)

// show prints a command line as typed, runs exactly that with bash, prints what it printed, and returns it.
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
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", line)
	cmd.Dir = s.Repository
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.kubeconfig, "PATH="+s.path, "HELM_CACHE_HOME="+s.Dir, "HELM_CONFIG_HOME="+s.Dir, "HELM_DATA_HOME="+s.Dir)
	cmd.Stdout = &output
	if echo != nil {
		cmd.Stdout = io.MultiWriter(&output, echo)
		defer echo.Flush()
	}
	cmd.Stderr = cmd.Stdout
	if err := process.Run(cmd); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return output.String(), fmt.Errorf("`%s`: %w: %s", line, err, lastLines(output.String(), 5))
	}
	return strings.TrimSpace(output.String()), nil
}

// apply shows a manifest and applies it.
func (s *story) apply(ctx context.Context, manifest string) error {
	_, err := s.show(ctx, "kubectl apply -f - <<'END'\n"+strings.TrimSpace(manifest)+"\nEND")
	return err
}

// until repeats a check for as long as the step may take.
func (s *story) until(ctx context.Context, check func() error) error {
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// require says what is missing in what a command printed.
func require(output string, parts ...string) error {
	for _, part := range parts {
		if !strings.Contains(output, part) {
			return fmt.Errorf("expected %q in what the command printed:\n%s", part, output)
		}
	}
	return nil
}

func lastLines(text string, most int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}
