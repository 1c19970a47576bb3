package main

import (
	"context"

	"github.com/cloudimage-dev/cloudimage-operator/test/narrate"
)

// shell has the environment that the story tells a person to export.
func (s *story) shell() narrate.Shell {
	return narrate.Shell{Printer: s.out, Dir: s.repository, Env: []string{"KUBECONFIG=" + s.plane.KubeconfigPath, "PATH=" + s.path()}}
}

func (s *story) show(ctx context.Context, line string) (string, error) {
	return s.shell().Show(ctx, line)
}

func (s *story) ask(ctx context.Context, line string) (string, error) {
	return s.shell().Ask(ctx, line)
}

func (s *story) watch(ctx context.Context, line string, body func() error) error {
	return s.shell().Watch(ctx, line, body)
}
