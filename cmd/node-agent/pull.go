package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/pflag"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/redact"
)

// Exit codes of the pull command.
const (
	pullDone        = 0
	pullFailed      = 1
	pullUsage       = 2
	pullInterrupted = 130 // 128 + SIGINT, as shells have it
)

// pullMemoryLimit keeps the collector ahead of a command that should not be
// noticed on a node; GOMEMLIMIT overrides it.
const pullMemoryLimit = 40 << 20

// pullSuccess is what --output json prints when the pull succeeded.
type pullSuccess struct {
	Digest                string  `json:"digest"`
	SizeBytes             int64   `json:"sizeBytes"`
	Path                  string  `json:"path"`
	Format                string  `json:"format"`
	VirtualSizeBytes      int64   `json:"virtualSizeBytes"`
	Encryption            string  `json:"encryption,omitempty"`
	DurationSeconds       float64 `json:"durationSeconds"`
	AverageBytesPerSecond int64   `json:"averageBytesPerSecond"`
	Connections           int     `json:"connections"`
	Parallel              bool    `json:"parallel"`
	TransferredBytes      int64   `json:"transferredBytes"`
	ResumedBytes          int64   `json:"resumedBytes"`
	Retries               int     `json:"retries"`
	AlreadyPresent        bool    `json:"alreadyPresent"`
}

// pullFailure is what --output json prints when the pull failed.
type pullFailure struct {
	Reason           string `json:"reason"`
	Message          string `json:"message"`
	TransferredBytes int64  `json:"transferredBytes"`
}

// runPull is the command `node-agent pull`. It returns the exit code. A ctx that
// was cancelled means that the person at the terminal interrupted it.
func runPull(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	config, err := parsePullFlags(args)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(stdout, pullHelp())
		return pullDone
	case err != nil:
		fmt.Fprintf(stderr, "node-agent pull: %s\nRun 'node-agent pull --help' for the flags.\n", redact.Printable(err.Error()))
		return pullUsage
	}
	log.SetOutput(io.Discard) // net/http would print what a wrong server sends after a body
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(pullMemoryLimit)
	}
	result, last, err := pullOnce(ctx, config, stderr)
	switch {
	case err == nil:
		return printSuccess(config, result, stdout, stderr)
	case ctx.Err() != nil:
		printInterrupted(config, last, stderr)
		return pullInterrupted
	default:
		return printFailure(config, result, err, stdout, stderr)
	}
}

// pullOnce opens the store and pulls, with a display of the progress.
func pullOnce(ctx context.Context, config pullConfig, stderr io.Writer) (result pull.Result, last pull.Progress, err error) {
	store, err := pull.Open(ctx, config.store, pull.OpenOptions{})
	if err != nil {
		return result, last, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	display := newDisplay(stderr, config.json)
	defer func() { display.end(err == nil) }()
	result, err = store.Pull(ctx, config.request, func(p pull.Progress) {
		last = p
		display.show(p)
	})
	return result, last, err
}

func printSuccess(config pullConfig, r pull.Result, stdout, stderr io.Writer) int {
	if config.json {
		return printJSON(pullSuccess{
			Digest: r.Digest, SizeBytes: r.SizeBytes, Path: r.Path, Format: string(r.Format),
			VirtualSizeBytes: r.VirtualSizeBytes, Encryption: string(r.Encryption), DurationSeconds: r.Duration.Seconds(),
			AverageBytesPerSecond: r.AverageBytesPerSecond, Connections: r.Connections, Parallel: r.Parallel,
			TransferredBytes: r.TransferredBytes, ResumedBytes: r.ResumedBytes, Retries: r.Retries,
			AlreadyPresent: r.AlreadyPresent,
		}, pullDone, stdout, stderr)
	}
	fmt.Fprint(stdout, summary(r))
	if config.request.Digest == "" {
		fmt.Fprintf(stderr, "No digest was given, so this is what the server sent. Pin it with --digest %s\n", r.Digest)
	}
	return pullDone
}

// summary describes a result for people.
func summary(r pull.Result) string {
	text := fmt.Sprintf("path    %s\ndigest  %s\nsize    %s\nformat  %s", r.Path, r.Digest, pull.FormatBytes(r.SizeBytes), r.Format)
	if r.Format == pull.FormatQcow2 {
		text += fmt.Sprintf(", a disk of %s", pull.FormatBytes(r.VirtualSizeBytes))
	}
	if r.Encryption != "" {
		text += fmt.Sprintf(", encrypted (%s)", r.Encryption)
	}
	if r.AlreadyPresent {
		return text + "\ntime    the store held these bytes already; nothing was fetched\n"
	}
	connections := "one connection"
	if r.Connections > 1 {
		connections = fmt.Sprintf("%d connections", r.Connections)
	}
	text += fmt.Sprintf("\ntime    %s, %s/s over %s", r.Duration.Round(10*time.Millisecond), pull.FormatBytes(r.AverageBytesPerSecond), connections)
	if r.ResumedBytes > 0 {
		text += fmt.Sprintf(", after %s of an earlier pull", pull.FormatBytes(r.ResumedBytes))
	}
	if r.Retries > 0 {
		text += fmt.Sprintf(", %d retries", r.Retries)
	}
	return text + "\n"
}

func printFailure(config pullConfig, r pull.Result, err error, stdout, stderr io.Writer) int {
	reason, message := string(pull.StorageError), err.Error()
	if errors.Is(err, pull.ErrUntrusted) {
		message += ": give the certificate of its authority with --cacert FILE"
	}
	if e, ok := errors.AsType[*pull.Error](err); ok {
		reason = e.Reason()
	}
	if config.json {
		return printJSON(pullFailure{Reason: reason, Message: redact.Printable(message), TransferredBytes: r.TransferredBytes}, pullFailed, stdout, stderr)
	}
	fmt.Fprintf(stderr, "node-agent pull: %s: %s\n", reason, redact.Printable(message))
	return pullFailed
}

func printInterrupted(config pullConfig, last pull.Progress, stderr io.Writer) {
	fmt.Fprintf(stderr, "node-agent pull: interrupted after %s", pull.FormatBytes(last.BytesCompleted))
	if last.TotalBytes > 0 {
		fmt.Fprintf(stderr, " of %s", pull.FormatBytes(last.TotalBytes))
	}
	fmt.Fprintf(stderr, ". What the server can continue is kept in the store %s.\n"+
		"Run the same command again to go on.\n", config.store)
}

func printJSON(v any, code int, stdout, stderr io.Writer) int {
	encoder := json.NewEncoder(stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		fmt.Fprintf(stderr, "node-agent pull: write the result: %v\n", err)
		return pullFailed
	}
	return code
}
