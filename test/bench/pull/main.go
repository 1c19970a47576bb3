// Command pull measures `node-agent pull` beside the tools that people would otherwise use, on networks that it makes on loopback,
// and against the least time that any tool could need. It exits 1 when the engine misses a bar.
//
// Time is that to a verified file: from exec through download, hash of the final file, data on stable storage, rename and sync of
// the directory. What a tool leaves undone is appended to it.
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
		fmt.Fprintln(os.Stderr, "bench-pull: interrupted")
		os.Exit(130)
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "bench-pull: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if err := prepare(ctx, c); err != nil {
		return err
	}
	b, err := newBench(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	about, err := describe(ctx, c)
	if err != nil {
		return err
	}
	results, err := b.measure(ctx, stderr)
	if err != nil {
		return err
	}
	var report bytes.Buffer
	results.write(&report, about)
	if _, err := stdout.Write(report.Bytes()); err != nil {
		return fmt.Errorf("print the report: %w", err)
	}
	if c.out != "" {
		if err := results.save(c.out, report.Bytes()); err != nil {
			return err
		}
	}
	if missed, _ := results.missed(); len(missed) > 0 {
		return fmt.Errorf("missed %d bars:\n  %s", len(missed), strings.Join(missed, "\n  "))
	}
	return nil
}
