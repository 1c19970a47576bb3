package process_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

const parentEnv = "CLOUDIMAGE_PROCESS_TEST_LOG"

func TestMain(m *testing.M) {
	if log := os.Getenv(parentEnv); log != "" {
		beParent(log)
		return
	}
	goleak.VerifyTestMain(m)
}

// beParent is this test binary played as a parent that is going to be killed: it starts a child, tells its id and hangs.
func beParent(log string) {
	p, err := process.Start(process.Command{Name: "sleep", Path: "/bin/sleep", Args: []string{"600"}, LogPath: log})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.PID())
	<-p.Done()
}

func TestChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentEnv+"="+filepath.Join(t.TempDir(), "log"))
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("read the child's id: %v", err)
	}
	var child int
	if _, err := fmt.Sscan(line, &child); err != nil {
		t.Fatalf("parent said %q: %v", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed, so an error is what must come
	deadline := time.Now().Add(10 * time.Second)
	for runs(child) {
		if time.Now().After(deadline) {
			t.Fatalf("child %d outlived its killed parent", child)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// runs tells whether a process exists and is not a zombie that nobody has collected yet.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func TestStop(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, script string }{
		{"ends when asked", `exec sleep 600`},
		{"ignores the request, with a child of its own", `trap "" TERM; sleep 600 & sleep 600`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, test.script)
			if err := p.Stop(300 * time.Millisecond); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(p.PID(), 0); err == nil {
				t.Error("the process is still there")
			}
			if err := p.Stop(0); err != nil {
				t.Errorf("second Stop: %v", err)
			}
		})
	}
}

func TestErrCarriesTheLog(t *testing.T) {
	t.Parallel()
	p := start(t, `echo what went wrong >&2; exit 3`)
	<-p.Done()
	for _, want := range []string{"exit status 3", "what went wrong", p.LogPath()} {
		if got := p.Err().Error(); !strings.Contains(got, want) {
			t.Errorf("error %q does not tell %q", got, want)
		}
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, content string
		lines         int
		want          string
	}{
		{"empty", "", 3, ""},
		{"fewer lines", "a\nb\n", 3, "a\nb"},
		{"exactly", "a\nb\nc\n", 3, "a\nb\nc"},
		{"more lines", "a\nb\nc\nd\n", 2, "c\nd"},
		{"no last newline", "a\nb", 1, "b"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := process.Tail(path, test.lines); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func start(t *testing.T, script string) *process.Process {
	t.Helper()
	p, err := process.Start(process.Command{
		Name: "script", Path: "/bin/sh", Args: []string{"-c", script}, LogPath: filepath.Join(t.TempDir(), "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRunEndsTheWholeGroup(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	pids := filepath.Join(t.TempDir(), "pids")
	cmd := exec.CommandContext(ctx, "bash", "-c", `(echo $BASHPID >"`+pids+`"; exec sleep 600) | sleep 600`)
	if err := process.Run(cmd); err == nil {
		t.Error("an interrupted command did not fail")
	}
	data, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	var child int
	if _, err := fmt.Sscan(string(data), &child); err != nil {
		t.Fatal(err)
	}
	if runs(child) {
		t.Errorf("child %d outlived its command", child)
	}
}
