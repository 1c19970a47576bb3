package charttest

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
)

const (
	namespace = "cloudimage-system"
	release   = "cloudimage-operator"
)

// fixture is what the tests share: nothing of it changes.
type fixture struct{ repository, chart, helm, manager, agent string }

var built fixture //nolint:gochecknoglobals // built once by TestMain

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runTests builds Helm and the manager before the first test, whose time is then its own.
func runTests(m *testing.M) (int, error) {
	repository, err := controlplane.Repository("")
	if err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "charttest-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	built = fixture{
		repository: repository, chart: filepath.Join(repository, "charts", "cloudimage-operator"),
		helm: filepath.Join(dir, "helm"), manager: filepath.Join(dir, "manager"), agent: filepath.Join(dir, "node-agent"),
	}
	for _, args := range [][]string{
		{"build", "-o", built.helm, "helm.sh/helm/v4/cmd/helm"},
		{"build", "-C", repository, "-o", dir, "./cmd/manager", "./cmd/node-agent"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return 0, fmt.Errorf("go %v: %w", args, err)
		}
	}
	return m.Run(), nil
}

// helm runs Helm with folders of its own, and returns what it printed on both streams.
func helm(ctx context.Context, t *testing.T, kubeconfig string, args ...string) (string, error) {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(ctx, built.helm, args...)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "HELM_PLUGINS="+home, "KUBECONFIG="+kubeconfig)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	err := cmd.Run()
	return output.String(), err
}

func startControlPlane(t *testing.T) *controlplane.ControlPlane {
	t.Helper()
	c, err := controlplane.Start(t.Context(), controlplane.Options{Output: os.Stderr, IgnoreEnvironment: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// kubectl fails the test when kubectl does.
func kubectl(t *testing.T, c *controlplane.ControlPlane, stdin string, args ...string) string {
	t.Helper()
	out, err := tryKubectl(t.Context(), c, stdin, args...)
	if err != nil {
		t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return out
}

func tryKubectl(ctx context.Context, c *controlplane.ControlPlane, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.KubectlPath, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.KubeconfigPath)
	cmd.Stdin = bytes.NewReader([]byte(stdin))
	out, err := cmd.CombinedOutput()
	return string(out), err
}
