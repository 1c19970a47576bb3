package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// plugin is kubectl-cloudimage with a kubeconfig.
type plugin struct{ path, kubeconfig string }

func buildPlugin(t *testing.T) plugin {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubectl-cloudimage")
	args := []string{"build", "-o", path}
	if raceEnabled {
		args = append(args, "-race")
	}
	if output, err := exec.CommandContext(t.Context(), "go", append(args, "../../cmd/kubectl-cloudimage")...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return plugin{path: path, kubeconfig: suite.plane.KubeconfigPath}
}

func (p plugin) command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, p.path, append(args, "--kubeconfig", p.kubeconfig)...)
}

// run returns what the plugin prints.
func (p plugin) run(t *testing.T, args ...string) string {
	t.Helper()
	output, err := p.command(t.Context(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", args, err, output)
	}
	return string(output)
}

// refused returns the message of a command that has to end by itself, with an error.
func (p plugin) refused(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	output, err := p.command(ctx, args...).CombinedOutput()
	if exit := (&exec.ExitError{}); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("%s: %v, want exit code 1: %s", args, err, output)
	}
	return string(output)
}

// watch starts to watch, and returns what is printed so far whenever it is called.
func (p plugin) watch(t *testing.T, args ...string) (cmd *exec.Cmd, printed func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "watch.txt")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() // the child has its own
	cmd = p.command(t.Context(), append([]string{"watch"}, args...)...)
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, func() string { return process.Tail(path, 1000) }
}

// as writes a kubeconfig of an administrator who acts as somebody else, at this API server or at another.
func (p plugin) as(t *testing.T, user, server string) plugin {
	t.Helper()
	config, err := clientcmd.LoadFromFile(p.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range config.AuthInfos {
		info.Impersonate = user
	}
	if server != "" {
		for _, cluster := range config.Clusters {
			cluster.Server = server
		}
	}
	p.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, p.kubeconfig); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPluginFollowsARollout watches as a person would, from the first bytes to the end, and interrupts.
func TestPluginFollowsARollout(t *testing.T) {
	t.Parallel()
	p := buildPlugin(t)
	g := newGroup(t, "plugin", 2)
	f := g.serve(t, 48*mib, 1, origin.File{})
	g.apply(t, g.name, f, func(spec *v1alpha1.CloudImageSpec) {
		spec.Download.MaxBytesPerSecond = resource.NewQuantity(2*mib, resource.BinarySI) // so that progress is reported once
	})
	one, printedOfOne := p.watch(t, g.name)
	all, printedOfAll := p.watch(t)
	eventually(t, "a bar that moves", func(context.Context) error {
		if text := printedOfOne(); !strings.Contains(text, "Pulling") || !strings.Contains(text, " %") {
			return fmt.Errorf("printed: %s", text)
		}
		return nil
	})
	waitCondition(t, g.name, v1alpha1.ConditionReady)
	eventually(t, "two ready nodes in the last picture", func(context.Context) error {
		text := printedOfOne()
		if last := text[max(0, strings.LastIndex(text, "IMAGE ")):]; strings.Count(last, " Ready ") != 2 {
			return fmt.Errorf("printed: %s", text)
		}
		if text := printedOfAll(); !strings.Contains(text, "2 of 2") {
			return fmt.Errorf("printed of all images: %s", text)
		}
		return nil
	})
	for _, cmd := range []*exec.Cmd{one, all} {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Error(err)
		}
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
			t.Errorf("after Ctrl-C: %s, want exit code 130", cmd.ProcessState)
		}
	}
}

func TestPluginAnswersOnce(t *testing.T) {
	t.Parallel()
	p := buildPlugin(t)
	g := newGroup(t, "answers", 1)
	f := g.serve(t, mib, 1, origin.File{})
	g.apply(t, g.name, f, nil)
	waitCondition(t, g.name, v1alpha1.ConditionReady)
	for command, want := range map[string]string{
		"status answers":        "answers-1   Ready",
		"why answers-1 answers": "holds",
	} {
		if got := p.run(t, strings.Fields(command)...); !strings.Contains(got, want) {
			t.Errorf("%s printed %q, want %q in it", command, got, want)
		}
	}
	for range 10 {
		if got := p.run(t, "retry", g.name); !strings.Contains(got, "watch answers") {
			t.Errorf("retry printed %q", got)
		}
		image := &v1alpha1.CloudImage{}
		if err := suite.client.Get(t.Context(), client.ObjectKey{Name: g.name}, image); err != nil {
			t.Fatal(err)
		}
		if at := image.Annotations[v1alpha1.RequestedAtAnnotation]; at == "" || image.Status.LastHandledRequestedAt != at {
			t.Errorf("after retry the status speaks of the request %q, want %q", image.Status.LastHandledRequestedAt, at)
		}
		if got := p.run(t, "wait", g.name, "--timeout=1m"); !strings.Contains(got, "is ready: Warmed") {
			t.Errorf("wait printed %q", got)
		}
	}
	for command, want := range map[string]string{
		"status no-such-image": "no-such-image", "watch no-such-image": "no-such-image", "retry no-such-image": "no-such-image",
		"wait no-such-image": "no-such-image",
	} {
		if got := p.refused(t, strings.Fields(command)...); !strings.Contains(got, want) {
			t.Errorf("%s printed %q, want %q in it", command, got, want)
		}
	}
}

// TestPluginDoesNotWaitForGood is about who may not look, and an API server that is not there.
func TestPluginDoesNotWaitForGood(t *testing.T) {
	t.Parallel()
	p := buildPlugin(t)
	strangers := map[string]plugin{"forbidden": p.as(t, "stranger", ""), "refused": p.as(t, "", "https://127.0.0.1:1")}
	for want, stranger := range strangers {
		for _, args := range [][]string{{"watch"}, {"watch", "debian"}, {"status", "debian"}} {
			output := stranger.refused(t, args...)
			if !strings.Contains(output, want) || strings.Count(output, "\n") != 1 {
				t.Errorf("%s printed %q, want one line with %q", args, output, want)
			}
		}
	}
}
