package observe

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const manifest = `---
kind: PodMonitor
metadata: {name: agents, namespace: here}
spec:
  selector: {matchLabels: {app/kind: agent}}
  podMetricsEndpoints:
  - port: metrics
    scheme: https
    authorization: {credentials: {name: token, key: token}}
    tlsConfig: {insecureSkipVerify: true}
    relabelings: [{sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: node}]
---
kind: PrometheusRule
metadata: {name: rules, namespace: here}
spec: {groups: [{name: one, rules: [{alert: Stopped, expr: up == 0, for: 5m}, {alert: Corrupt, expr: up == 1}]}]}
`

func TestRendered(t *testing.T) {
	t.Parallel()
	rendered, err := ReadRendered(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := rendered.Hasten("Stopped", "5s"); err != nil {
		t.Error(err)
	}
	if err := rendered.Hasten("Mistyped", "5s"); err == nil {
		t.Error("an alert that is not there was hastened")
	}
	config, err := rendered.config("2s")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := rendered.rules()
	if err != nil {
		t.Fatal(err)
	}
	same(t, string(config), `
global: {scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}
rule_files: [rules.yaml]
scrape_configs:
- job_name: here/agents
  scheme: https
  tls_config: {insecure_skip_verify: true}
  authorization: {credentials_file: token}
  file_sd_configs: [{files: [targets.json]}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_phase], regex: (Failed|Succeeded), action: drop}
  - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: metrics, action: keep}
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
  - {source_labels: [__meta_kubernetes_pod_label_app_kind], regex: agent, action: keep}
  - {source_labels: [__meta_kubernetes_pod_node_name], target_label: node}
`)
	same(t, string(rules), `groups: [{name: one, rules: [{alert: Stopped, expr: up == 0, for: 5s}, {alert: Corrupt, expr: up == 1}]}]`)
	for part := range strings.SplitSeq(manifest, "---\n") {
		if _, err := ReadRendered(part); err == nil {
			t.Errorf("this was taken for a PodMonitor and a PrometheusRule: %s", part)
		}
	}
}

func same(t *testing.T, got, want string) {
	t.Helper()
	var values [2]any
	for i, text := range []string{want, got} {
		if err := yaml.Unmarshal([]byte(text), &values[i]); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(values[0], values[1]); diff != "" {
		t.Error(diff)
	}
}

func TestTargetsOf(t *testing.T) {
	t.Parallel()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "here", Name: "agent-1", Labels: map[string]string{"app/kind": "agent"}},
		Spec: corev1.PodSpec{NodeName: "one", Containers: []corev1.Container{{Ports: []corev1.ContainerPort{
			{Name: "metrics", ContainerPort: 8080}, {Name: "health", ContainerPort: 8081},
		}}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if got := targetsOf(pod); got != nil {
		t.Errorf("without an address: %v", got)
	}
	pod.Status.PodIP = "fd00::1"
	var want []targetGroup
	for port, address := range map[string]string{"metrics": "[fd00::1]:8080"} {
		want = append(want, targetGroup{[]string{address}, map[string]string{
			"__meta_kubernetes_namespace": "here", "__meta_kubernetes_pod_name": "agent-1", "__meta_kubernetes_pod_node_name": "one",
			"__meta_kubernetes_pod_phase": "Running", "__meta_kubernetes_pod_container_port_name": port,
			"__meta_kubernetes_pod_label_app_kind": "agent",
		}})
	}
	got := targetsOf(pod)
	if len(got) != 2 || got[1].Targets[0] != "[fd00::1]:8081" {
		t.Fatalf("%v, want a target a port", got)
	}
	if diff := cmp.Diff(want, got[:1]); diff != "" {
		t.Error(diff)
	}
}

func TestLegend(t *testing.T) {
	t.Parallel()
	labels := model.Metric{"resource": "nodes", "result": "error"}
	for format, want := range map[string]string{
		"ready": "ready", "{{resource}}, {{ result }}": "nodes, error", "{{resource}} {{missing}}": "nodes", "write of {{resource}}, 99 %": "write of nodes, 99 %",
	} {
		if got := (Target{LegendFormat: format}).Legend(labels); got != want {
			t.Errorf("%q became %q, want %q", format, got, want)
		}
	}
}

// TestDashboard: the real one can be read, its panels do not overlap, and states have the colours that people expect.
func TestDashboard(t *testing.T) {
	t.Parallel()
	dashboard, err := ReadDashboard("../../charts/cloudimage-operator/files/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	taken := map[[2]int]string{}
	for _, panel := range dashboard.Panels {
		place := panel.GridPos
		if place.X+place.W > 24 || panel.FieldConfig.Defaults.Unit == "" || panel.Description == "" {
			t.Errorf("%q leaves the page, or has no unit or no description", panel.Title)
		}
		for x := place.X; x < place.X+place.W; x++ {
			for y := place.Y; y < place.Y+place.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%q lies over %q", panel.Title, other)
				}
				taken[[2]int{x, y}] = panel.Title
			}
		}
		if panel.Title == "Agents, by state" && (panel.Color("ready") != "green" || panel.Color("else") != "" || !panel.FieldConfig.Defaults.Stacked()) {
			t.Errorf("%q: %+v", panel.Title, panel.FieldConfig)
		}
	}
}
