package charttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestPodMonitors: where metrics are secure, Prometheus asks over TLS and shows a token; the queries need the node's name.
func TestPodMonitors(t *testing.T) {
	t.Parallel()
	node := "relabelings:\n- {sourceLabels: [__meta_kubernetes_pod_node_name], targetLabel: node}\n"
	for _, test := range []struct{ name, set, want string }{
		{"secure", "podMonitor.tokenSecret.name=prometheus-token", "port: metrics\nscheme: https\ninterval: 30s\ntlsConfig: {insecureSkipVerify: true}\n" +
			"authorization: {credentials: {name: prometheus-token, key: token}}\n" + node},
		{"plain", "metrics.secure=false", "port: metrics\ninterval: 30s\n" + node},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			all := objects(t, template(t, "--set", "podMonitor.enabled=true", "--set", test.set))
			for component, workload := range map[string]string{"manager": "Deployment", "node-agent": "DaemonSet"} {
				var monitor monitoringv1.PodMonitor
				into(t, get(t, all, "PodMonitor "+namespace+"/cloudimage-"+component), &monitor)
				var want monitoringv1.PodMetricsEndpoint
				if err := yaml.UnmarshalStrict([]byte(test.want), &want); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]monitoringv1.PodMetricsEndpoint{want}, monitor.Spec.PodMetricsEndpoints); diff != "" {
					t.Errorf("%s: %s", component, diff)
				}
				labels, _, err := unstructured.NestedStringMap(get(t, all, workload+" "+namespace+"/cloudimage-"+component).Object, "spec", "template", "metadata", "labels")
				if err != nil {
					t.Fatal(err)
				}
				for key, value := range monitor.Spec.Selector.MatchLabels {
					if labels[key] != value {
						t.Errorf("%s: the monitor selects %s=%s, the Pods have %q", component, key, value, labels[key])
					}
				}
			}
		})
	}
	out, err := helm(t.Context(), t, "", "template", release, built.chart, "--set", "podMonitor.enabled=true")
	if err == nil || !strings.Contains(out, "podMonitor.tokenSecret.name is needed") {
		t.Errorf("without a token: error %v, want one that says so, in:\n%s", err, out)
	}
}

// TestMetricsReaders: who scrapes gets the role that lets them, and nobody has it by default.
func TestMetricsReaders(t *testing.T) {
	t.Parallel()
	const binding = "ClusterRoleBinding /cloudimage-metrics-reader"
	if objects(t, template(t))[binding] != nil {
		t.Error("there are readers by default")
	}
	all := objects(t, template(t, "--set", "metrics.readers[0].kind=ServiceAccount,metrics.readers[0].name=prometheus,metrics.readers[0].namespace=monitoring"))
	subjects, _, err := unstructured.NestedSlice(get(t, all, binding).Object, "subjects")
	if err != nil {
		t.Fatal(err)
	}
	want := []any{map[string]any{"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"}}
	if diff := cmp.Diff(want, subjects); diff != "" {
		t.Error(diff)
	}
	role, _, err := unstructured.NestedString(get(t, all, binding).Object, "roleRef", "name")
	if err != nil || all["ClusterRole /"+role] == nil {
		t.Errorf("the binding is to %q, which is not installed (%v)", role, err)
	}
}

// TestAlertsAndDashboardAsTested: Helm's templates change nothing of the files that promtool and the dashboard's test read.
func TestAlertsAndDashboardAsTested(t *testing.T) {
	t.Parallel()
	all := objects(t, template(t, "--set", "prometheusRule.enabled=true,dashboard.enabled=true"))
	var want map[string]any
	if err := yaml.Unmarshal(file(t, "alerts.yaml"), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, get(t, all, "PrometheusRule "+namespace+"/cloudimage-operator").Object["spec"]); diff != "" {
		t.Error(diff)
	}
	dashboard, _, err := unstructured.NestedString(get(t, all, "ConfigMap "+namespace+"/cloudimage-dashboard").Object, "data", "cloudimage.json")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.TrimSpace(string(file(t, "dashboard.json"))), strings.TrimSpace(dashboard)); diff != "" {
		t.Error(diff)
	}
}

// file is one of the chart's.
func file(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(built.chart, "files", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func get(t *testing.T, all map[string]*unstructured.Unstructured, key string) *unstructured.Unstructured {
	t.Helper()
	if all[key] == nil {
		t.Fatalf("there is no %s", key)
	}
	return all[key]
}

func into(t *testing.T, object *unstructured.Unstructured, typed any) {
	t.Helper()
	data, err := yaml.Marshal(object.Object)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(data, typed); err != nil {
		t.Fatal(err)
	}
}
