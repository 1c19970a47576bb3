package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/test/narrate"
)

// shell has what the story installed first in its PATH, and its cluster.
func (s *story) shell() narrate.Shell {
	return narrate.Shell{Printer: s.out, Dir: s.Repository, Env: []string{
		"KUBECONFIG=" + s.kubeconfig, "PATH=" + s.path, "HELM_CACHE_HOME=" + s.Dir, "HELM_CONFIG_HOME=" + s.Dir, "HELM_DATA_HOME=" + s.Dir,
	}}
}

func (s *story) show(ctx context.Context, line string) (string, error) {
	return s.shell().Show(ctx, line)
}

func (s *story) ask(ctx context.Context, line string) (string, error) {
	return s.shell().Ask(ctx, line)
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
