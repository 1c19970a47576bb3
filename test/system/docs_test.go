package system

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
)

// TestCommandsOfTheSourcesPage runs what docs/sources.md tells people to type, in its order.
func TestCommandsOfTheSourcesPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/sources.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	createAgentDaemonSet(t)
	t.Cleanup(func() {
		for _, object := range []client.Object{
			&v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{Name: "debian-private"}}, &corev1.ConfigMap{ObjectMeta: inSources("example-ca")},
			&corev1.Secret{ObjectMeta: inSources("debian-mirror")}, &corev1.Secret{ObjectMeta: inSources("artifacts")}, &corev1.Secret{ObjectMeta: inSources("gitlab")},
		} {
			if err := suite.client.Delete(context.Background(), object); err != nil {
				t.Error(err)
			}
		}
	})
	steps := commandsIn(string(page))
	if len(steps) < 12 {
		t.Errorf("only %d commands were found", len(steps))
	}
	for _, step := range steps {
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", step)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "KUBECONFIG="+suite.plane.KubeconfigPath,
			"PATH="+filepath.Dir(suite.plane.KubectlPath)+":"+suite.dir+":"+os.Getenv("PATH"))
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s\n%v: %s", step, err, bytes.TrimSpace(output))
		}
	}
	secret := &corev1.Secret{}
	if err := suite.client.Get(t.Context(), client.ObjectKey{Namespace: harness.SourceNamespace, Name: "debian-mirror"}, secret); err != nil {
		t.Fatal(err)
	}
	if got := string(secret.Data["password"]) + " " + secret.Annotations[v1alpha1.AllowedHostsAnnotation]; got != "another images.example.com" {
		t.Errorf("after the rotation the Secret holds %q", got)
	}
}

// TestSamples has the API server check every sample, down to misspelt fields.
func TestSamples(t *testing.T) {
	t.Parallel()
	samples, err := filepath.Glob("../../config/samples/*.yaml")
	if err != nil || len(samples) < 10 {
		t.Fatalf("%d samples were found: %v", len(samples), err)
	}
	// Its controller is not here, and a Pod is not taken without.
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "default"}}
	if err := client.IgnoreAlreadyExists(suite.client.Create(t.Context(), account)); err != nil {
		t.Fatal(err)
	}
	for _, sample := range samples {
		if filepath.Base(sample) == "flux.yaml" {
			continue // an object of Flux, which this API server does not know
		}
		out, err := suite.cluster.Kubectl(t.Context(), nil, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", sample)
		if err != nil {
			t.Errorf("%s: %v\n%s", sample, err, out)
		}
	}
}

// commandsIn are the indented commands and the fenced objects of a page, these as commands that apply them.
func commandsIn(page string) []string {
	var commands []string
	fenced, yaml := false, ""
	for line := range strings.Lines(page) {
		text, indented := strings.CutPrefix(line, "    ")
		switch {
		case strings.HasPrefix(line, "```") && fenced:
			// No node must fetch from example.com.
			yaml = strings.Replace(yaml, "spec:\n", "spec:\n  nodeSelector: {matchLabels: {"+groupLabel+": none}}\n", 1)
			commands = append(commands, fmt.Sprintf("kubectl apply --server-side -f - <<'EOF'\n%sEOF", yaml))
			fenced = false
		case strings.HasPrefix(line, "```"):
			fenced, yaml = true, ""
		case fenced:
			yaml += line
		case indented && strings.HasPrefix(text, " "):
			commands[len(commands)-1] += text // the next line of a command
		case indented:
			// An agent's flags are only parsed.
			commands = append(commands, strings.Replace(text, "…", "--help", 1))
		}
	}
	return commands
}

func createAgentDaemonSet(t *testing.T) {
	t.Helper()
	labels := map[string]string{"app": "docs"}
	sets := suite.cluster.Client.AppsV1().DaemonSets(harness.Namespace)
	_, err := sets.Create(t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "cloudimage-node-agent"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "agent", Image: "agent"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sets.Delete(context.Background(), "cloudimage-node-agent", metav1.DeleteOptions{}) })
}
