package harness

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
)

const standInEnv = "CLOUDIMAGE_HARNESS_TEST_STAND_IN"

func TestMain(m *testing.M) {
	if os.Getenv(standInEnv) != "" {
		beStandIn(os.Args[1])
		return
	}
	goleak.VerifyTestMain(m)
}

// beStandIn is this test binary played as an agent: it only answers its probe.
func beStandIn(address string) {
	http.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	fmt.Println("listening on", address, http.ListenAndServe(address, nil))
}

func TestProgramIsKeptRunning(t *testing.T) {
	t.Setenv(standInEnv, "true")
	var mu sync.Mutex
	var told []bool
	failures := 2
	p := &Program{
		Name: "stand-in", LogPath: filepath.Join(t.TempDir(), "log"), path: os.Args[0], client: &http.Client{Transport: &http.Transport{}},
		args: func(_, health string) []string { return []string{health} },
		onReady: func(_ context.Context, ready bool) error {
			mu.Lock()
			defer mu.Unlock()
			if failures--; failures >= 0 {
				return fmt.Errorf("the API server is away")
			}
			told = append(told, ready)
			return nil
		},
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop() })
	if err := p.Start(); err == nil {
		t.Error("it was started twice")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	first := p.PID()
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	for p.Starts() < 2 && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	if err := p.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	if p.PID() == first || p.MetricsAddress() == "" {
		t.Errorf("process %d at %q is the one that was killed", p.PID(), p.MetricsAddress())
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if p.PID() != 0 {
		t.Errorf("process %d runs after Stop", p.PID())
	}
	if err := p.Kill(); err == nil {
		t.Error("a stopped program was killed")
	}
	mu.Lock()
	defer mu.Unlock()
	if want := fmt.Sprint([]bool{true, false, true, false}); fmt.Sprint(told) != want {
		t.Errorf("readiness changes %v, want %s", told, want)
	}
	t.Log(process.Tail(p.LogPath, 5))
}
