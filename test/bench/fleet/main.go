// Command fleet measures the control plane with a fleet of hollow agents: the real manager, a real API server and etcd, and agents
// whose engine and disk are simulated. It exits 1 and names every bar that was missed.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Fprintln(os.Stderr, "bench-fleet: interrupted")
		os.Exit(130)
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "bench-fleet: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	about, err := describe(ctx, c, stderr)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, c, stderr)
	if b != nil {
		defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	}
	if err != nil {
		return err
	}
	results, err := b.measure(ctx)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, b.explain())
	}
	var report bytes.Buffer
	results.write(&report, about)
	if _, err := stdout.Write(report.Bytes()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	if c.out != "" {
		if err := results.save(ctx, report.Bytes()); err != nil {
			return err
		}
	}
	if missed := missedOf(results.bars()); len(missed) > 0 {
		return fmt.Errorf("missed %d bars:\n  %s", len(missed), strings.Join(missed, "\n  "))
	}
	return nil
}
