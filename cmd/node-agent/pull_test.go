package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// pullHelperArgs makes the test binary the command itself, for tests that kill it.
const pullHelperArgs = "TEST_PULL_ARGS"

func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv(pullHelperArgs); ok {
		os.Exit(runPull(context.Background(), strings.Split(args, "\n"), os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

func pullProcess(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), pullHelperArgs+"="+strings.Join(args, "\n"))
	return command
}

// runCLI runs the command in this process.
func runCLI(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = runPull(ctx, args, &out, &err)
	return code, out.String(), err.String()
}

// TestPullSaysEncrypted: an encrypted image is said to be so, to programs and to people.
func TestPullSaysEncrypted(t *testing.T) {
	t.Parallel()
	aes := pulltest.Qcow2(1, 1<<20, 1<<30)
	aes[35] = 1
	luks := append([]byte("LUKS\xba\xbe\x00\x02"), make([]byte, 1<<20-8)...)
	for kind, object := range map[string][]byte{"AES": aes, "LUKS": luks} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			server := pulltest.New(t, pulltest.Bytes(object))
			store := filepath.Join(t.TempDir(), "store")
			_, stdout, stderr := runCLI(t.Context(), "--store", store, "--output", "json", server.URL)
			if !strings.Contains(stdout, `"encryption":"`+kind+`"`) {
				t.Errorf("JSON %q %q does not say %s", stdout, stderr, kind)
			}
			if _, stdout, stderr = runCLI(t.Context(), "--store", store, server.URL); !strings.Contains(stdout, "encrypted ("+kind+")") {
				t.Errorf("text %q %q does not say %s", stdout, stderr, kind)
			}
		})
	}
}

func TestPullJSON(t *testing.T) {
	t.Parallel()
	object := pulltest.Bytes(pulltest.Qcow2(1, 9<<20, 10<<30))
	server := pulltest.New(t, object)
	store := filepath.Join(t.TempDir(), "store")
	args := []string{"--store", store, "--output", "json", "--digest", pulltest.Digest(object), "--connections", "2", server.URL}
	want := map[string]any{
		"digest": pulltest.Digest(object), "sizeBytes": 9.0 * (1 << 20), "format": "Qcow2", "virtualSizeBytes": 10.0 * (1 << 30),
		"path":     filepath.Join(store, "blobs", "sha256", strings.TrimPrefix(pulltest.Digest(object), "sha256:")),
		"parallel": true, "connections": 2.0, "transferredBytes": 9.0 * (1 << 20), "resumedBytes": 0.0, "retries": 0.0, "alreadyPresent": false,
	}
	for _, again := range []bool{false, true} {
		if again {
			want["alreadyPresent"], want["parallel"], want["connections"], want["transferredBytes"] = true, false, 0.0, 0.0
		}
		code, stdout, stderr := runCLI(t.Context(), args...)
		if code != pullDone || stderr != "" || strings.Count(stdout, "\n") != 1 {
			t.Fatalf("exit code %d, output %q, errors %q", code, stdout, stderr)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(stdout), &got); err != nil {
			t.Fatal(err)
		}
		if seconds, ok := got["durationSeconds"].(float64); !ok || seconds <= 0 {
			t.Errorf("durationSeconds is %v", got["durationSeconds"])
		}
		if rate, ok := got["averageBytesPerSecond"].(float64); !ok || (rate > 0) == again {
			t.Errorf("averageBytesPerSecond is %v", got["averageBytesPerSecond"])
		}
		delete(got, "durationSeconds")
		delete(got, "averageBytesPerSecond")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestPullFailures(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 5<<20)
	none := "sha256:" + strings.Repeat("0", 64)
	tests := []struct {
		name   string
		args   []string
		reason pull.Reason
	}{
		{"digest", []string{"--digest", none}, pull.DigestMismatch},
		{"size", []string{"--max-size", "5242879"}, pull.TooLarge},
		{"format", []string{"--format", "qcow2"}, pull.UnsupportedContent},
		{"network", []string{"--deny-cidr", "127.0.0.0/8"}, pull.PolicyDenied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := pulltest.New(t, object)
			args := append([]string{"--store", t.TempDir(), server.URL + "?signature=SECRET"}, tt.args...)
			code, stdout, stderr := runCLI(t.Context(), append(args, "--output=json")...)
			var got pullFailure
			if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != pullFailed || stderr != "" {
				t.Fatalf("exit code %d, output %q, errors %q, %v", code, stdout, stderr, err)
			}
			if got.Reason != string(tt.reason) || got.Message == "" || strings.Contains(stdout, "SECRET") {
				t.Errorf("output %s", stdout)
			}
			if tt.reason == pull.DigestMismatch && got.TransferredBytes < 5<<20 {
				t.Errorf("transferredBytes is %d", got.TransferredBytes)
			}
			code, stdout, stderr = runCLI(t.Context(), args...)
			if code != pullFailed || stdout != "" || !strings.Contains(stderr, string(tt.reason)) || strings.Contains(stderr, "SECRET") {
				t.Errorf("as text: exit code %d, output %q, errors %q", code, stdout, stderr)
			}
		})
	}
}

// TestStallTimeout has a server that takes long to begin: how long it is waited for is
// what the flag says, and not a minute.
func TestStallTimeout(t *testing.T) {
	t.Parallel()
	never := make(chan struct{})
	t.Cleanup(func() { close(never) })
	t.Run("asked again", func(t *testing.T) {
		t.Parallel()
		ctx, interrupt := context.WithTimeout(t.Context(), 50*time.Second)
		defer interrupt()
		var asked atomic.Int32
		server := pulltest.New(t, pulltest.Random(1, 1<<20), pulltest.Hold(never), func(*pulltest.Exchange) {
			if asked.Add(1) == 2 {
				interrupt()
			}
		})
		code, stdout, stderr := runCLI(ctx, "--store", t.TempDir(), "--stall-timeout", "300ms", server.URL)
		if n := asked.Load(); code != pullInterrupted || n != 2 {
			t.Errorf("exit code %d after %d requests, output %q, errors %q", code, n, stdout, stderr)
		}
	})
	t.Run("waited for", func(t *testing.T) {
		t.Parallel()
		begins := make(chan struct{})
		server := pulltest.New(t, pulltest.Random(1, 1<<20), pulltest.Hold(begins), func(*pulltest.Exchange) {
			time.AfterFunc(time.Second, sync.OnceFunc(func() { close(begins) }))
		})
		code, stdout, stderr := runCLI(t.Context(), "--store", t.TempDir(), "--stall-timeout", "1m", server.URL)
		if n := len(server.Log()); code != pullDone || n != 1 {
			t.Errorf("exit code %d after %d requests, output %q, errors %q", code, n, stdout, stderr)
		}
	})
}

func TestPullUsageErrors(t *testing.T) {
	t.Parallel()
	headers := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(headers, []byte("Good: x\n\nSECRET\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const url = "https://example.org/x"
	for say, args := range map[string][]string{
		"exactly one URL":          {},
		"2 arguments":              {url, url},
		"unknown flag":             {"--conections", "3", url},
		"use 1 to 64":              {"--connections", "0", url},
		"1 to 64":                  {"--connections", "65", url},
		"--max-size":               {"--max-size", "twenty", url},
		"positive quantity":        {"--max-size", "0", url},
		"--max-bytes-per-second":   {"--max-bytes-per-second", "-5", url},
		"Auto, Qcow2, Raw or Opaq": {"--format", "vmdk", url},
		"cache or media":           {"--verify", "never", url},
		"text or json":             {"--output", "yaml", url},
		"64 lower-case hex digits": {"--digest", "sha256:12", url},
		"--deny-cidr":              {"--deny-cidr", "10.0.0.1", url},
		"Name: value":              {"--header", "SECRET", url},
		"set by the engine":        {"--header", "Range: SECRET", url},
		"line 3 of":                {"--header", "@" + headers, url},
		"no such file":             {"--cacert", "/nonexistent", url},
		"no PEM certificate":       {"--cacert", headers, url},
		"use http or https":        {"ftp://example.org/SECRET?SECRET"[:21]},
		"Authorization header":     {"https://user:SECRET@example.org/"},
		"--store is empty":         {"--store", "", url},
		"positive duration":        {"--stall-timeout", "0", url},
		"--stall-timeout is -1s":   {"--stall-timeout", "-1s", url},
		"invalid argument \"60\"":  {"--stall-timeout", "60", url},
	} {
		t.Run(say, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := runCLI(t.Context(), args...)
			if code != pullUsage || stdout != "" || !strings.Contains(stderr, say) || strings.Contains(stderr, "SECRET") {
				t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
			}
		})
	}
}

func TestPullHelp(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := runCLI(t.Context(), "--help")
	if code != pullDone || stderr != "" {
		t.Fatalf("exit code %d, errors %q", code, stderr)
	}
	for _, say := range []string{"--store", "/var/lib/cloudimage", "--digest", "20Gi", "--header", "@FILE", "--allow-cidr", "Examples:", "Exit codes:"} {
		if !strings.Contains(stdout, say) {
			t.Errorf("the help does not mention %s", say)
		}
	}
}

func TestPullHeadersFromFile(t *testing.T) {
	t.Parallel()
	server := pulltest.New(t, pulltest.Random(1, 1<<20))
	file := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(file, []byte("Authorization: Bearer a:b\r\n\nX-Two: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, stderr := runCLI(t.Context(), "--store", t.TempDir(), "--header", "@"+file, "--header", "X-Three:3", server.URL)
	if code != pullDone {
		t.Fatal(stderr)
	}
	got := server.Log()[0].Header
	if got.Get("Authorization") != "Bearer a:b" || got.Get("X-Two") != "2" || got.Get("X-Three") != "3" {
		t.Errorf("headers %v", got)
	}
}

func TestPullText(t *testing.T) {
	t.Parallel()
	server := pulltest.New(t, pulltest.Random(1, 5<<20))
	store := t.TempDir()
	for _, say := range []string{"connection", "held these bytes already"} {
		code, stdout, stderr := runCLI(t.Context(), "--store", store, "--digest", pulltest.Digest(pulltest.Random(1, 5<<20)), server.URL)
		if code != pullDone || !strings.Contains(stdout, say) || !strings.Contains(stdout, "5.00 MiB") || stderr != "" {
			t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
		}
	}
	code, stdout, stderr := runCLI(t.Context(), "--store", store, server.URL)
	if code != pullDone || !strings.Contains(stderr, "Pin it with --digest sha256:") {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
}

func TestPullStoreBusy(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	held, err := pull.Open(t.Context(), store, pull.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	code, stdout, _ := runCLI(t.Context(), "--store", store, "--output", "json", "http://127.0.0.1:1/")
	if code != pullFailed || !strings.Contains(stdout, `"reason":"StoreBusy"`) {
		t.Errorf("exit code %d, output %q", code, stdout)
	}
}

// TestPullInterrupted interrupts a pull once most of the object has come, and runs
// the same command again, which fetches only the rest.
func TestPullInterrupted(t *testing.T) {
	t.Parallel()
	const size = 9 << 20
	object := pulltest.Random(1, size)
	var silent atomic.Bool
	silent.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := pulltest.New(t, object, func(x *pulltest.Exchange) {
		if silent.Load() && x.Body.End > 4<<20 { // asked for when the first part is on disk
			x.StallAfter = 0
			cancel()
		}
	})
	store := t.TempDir()
	args := []string{"--store", store, "--connections", "1", "--output", "json", server.URL}
	code, stdout, stderr := runCLI(ctx, args...)
	if code != pullInterrupted || stdout != "" || !strings.Contains(stderr, "same command again to go on") {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
	silent.Store(false)
	code, stdout, stderr = runCLI(t.Context(), args...)
	var got pullSuccess
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
	if code != pullDone || got.ResumedBytes != 4<<20 || got.TransferredBytes+got.ResumedBytes != size || got.Digest != pulltest.Digest(object) {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
}

// TestPullKilled kills the command in the middle of a pull, again and again, and
// then lets it finish.
func TestPullKilled(t *testing.T) {
	t.Parallel()
	object := pulltest.Random(1, 24<<20)
	store := t.TempDir()
	for sent := int64(1 << 20); sent < 24<<20; sent += 5 << 20 {
		// The server stops at one place, so that the command waits there to be killed.
		var stopped atomic.Bool
		server := pulltest.New(t, object, pulltest.When(func(x *pulltest.Exchange) bool {
			return x.Body.End > sent
		}, func(x *pulltest.Exchange) {
			x.StallAfter = max(0, sent-x.Body.Start)
			stopped.Store(true)
		}))
		command := pullProcess(t, "--store", store, "--digest", pulltest.Digest(object), server.URL)
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool {
			info, err := os.Stat(filepath.Join(store, "partial", strings.TrimPrefix(pulltest.Digest(object), "sha256:"), "data"))
			return err == nil && info.Size() == 24<<20 && stopped.Load()
		})
		if err := command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = command.Wait()
		if names, err := os.ReadDir(filepath.Join(store, "blobs", "sha256")); err != nil || len(names) != 0 {
			t.Fatalf("killed after %d bytes, there are the blobs %v, %v", sent, names, err)
		}
	}
	server := pulltest.New(t, object)
	output, err := pullProcess(t, "--store", store, "--output", "json", "--digest", pulltest.Digest(object), server.URL).Output()
	if err != nil || !strings.Contains(string(output), pulltest.Digest(object)) {
		t.Fatalf("after the kills: %s, %v", output, err)
	}
	f, err := os.Open(filepath.Join(store, "blobs", "sha256", strings.TrimPrefix(pulltest.Digest(object), "sha256:")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(f)
	if err != nil || pulltest.Digest(pulltest.Bytes(content)) != pulltest.Digest(object) {
		t.Errorf("the blob is wrong, %v", err)
	}
	if partials, err := os.ReadDir(filepath.Join(store, "partial")); err != nil || len(partials) != 0 {
		t.Errorf("partial/ holds %v, %v", partials, err)
	}
}

// waitFor waits for a state of the world that another process brings about.
func waitFor(t *testing.T, reached func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for !reached() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Fatal("the state was not reached within 30 s")
		}
	}
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		progress pull.Progress
		rate     float64
		want     string
	}{
		{pull.Progress{BytesCompleted: 1 << 30, TotalBytes: 4 << 30, Connections: 8}, 100 << 20, " 25 %  1.00 GiB of 4.00 GiB  100 MiB/s  8 connections  31s left"},
		{pull.Progress{BytesCompleted: 5 << 20, Connections: 1}, 1000, "5.00 MiB  0.98 KiB/s  1 connection  size unknown"},
		{pull.Progress{BytesCompleted: 10, TotalBytes: 10}, 0, "100 %  10 B of 10 B  0 B/s  0 connections  verifying"},
		{pull.Progress{BytesCompleted: 1, TotalBytes: 10, Connections: 1}, 0, " 10 %  1 B of 10 B  0 B/s  1 connection  time left unknown"},
	}
	for _, tt := range tests {
		if got := progressLine(tt.progress, tt.rate); got != tt.want {
			t.Errorf("progressLine = %q, want %q", got, tt.want)
		}
	}
}

func TestRateMeter(t *testing.T) {
	t.Parallel()
	var m rateMeter
	start := time.Unix(0, 0)
	if m.bytesPerSecond() != 0 {
		t.Error("a rate without samples")
	}
	for second := range 100 {
		m.add(start.Add(time.Duration(second)*time.Second), int64(second)*1000)
	}
	if got := m.bytesPerSecond(); got != 1000 {
		t.Errorf("rate %g", got)
	}
}
