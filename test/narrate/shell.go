package narrate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

// failureLines is how much an error tells of what a command printed.
const failureLines = 5

// Shell runs the command lines of a story with bash.
type Shell struct {
	Printer *Printer
	Dir     string
	// Env comes on top of this process's own.
	Env []string
}

// Show prints a command line as typed, runs exactly that, prints what it printed, and returns it without the space around it.
func (s Shell) Show(ctx context.Context, line string) (string, error) {
	s.Printer.Command(line)
	echo := s.Printer.Output()
	defer echo.Flush()
	return s.run(ctx, line, echo)
}

// Ask runs a command line without showing it.
func (s Shell) Ask(ctx context.Context, line string) (string, error) {
	return s.run(ctx, line, io.Discard)
}

// Watch shows what a command prints while body runs, as a second terminal would.
func (s Shell) Watch(ctx context.Context, line string, body func() error) error {
	s.Printer.Command(line + " &")
	watching, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd := s.command(watching, line)
		echo := s.Printer.Output()
		cmd.Stdout, cmd.Stderr = echo, echo
		// It is cut off when the body is through, so how it ends says nothing.
		_ = process.Run(cmd)
	}()
	err := body()
	cancel()
	<-ended
	return err
}

func (s Shell) run(ctx context.Context, line string, echo io.Writer) (string, error) {
	var output bytes.Buffer
	cmd := s.command(ctx, line)
	cmd.Stdout = io.MultiWriter(&output, echo)
	cmd.Stderr = cmd.Stdout
	err := process.Run(cmd)
	printed := strings.TrimSpace(output.String())
	if err == nil {
		return printed, nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	lines := strings.Split(printed, "\n")
	return output.String(), fmt.Errorf("`%s`: %w: %s", line, err, strings.Join(lines[max(0, len(lines)-failureLines):], "\n"))
}

func (s Shell) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", line)
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), s.Env...)
	return cmd
}
