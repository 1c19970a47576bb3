package charttest

import (
	"maps"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// TestServerAccepts asks a real API server about everything that the chart can render: unknown fields, wrong types, what its
// validation and its CEL compiler say. Kinds of the Prometheus operator, which it does not know, are read into that operator's types.
func TestServerAccepts(t *testing.T) {
	t.Parallel()
	c := startControlPlane(t)
	for _, name := range []string{namespace, "cloudimage-sources", "origins"} {
		kubectl(t, c, "", "create", "namespace", name)
	}
	for _, values := range [][]string{nil, {"--values", maximal}} {
		all := objects(t, template(t, values...))
		for _, key := range slices.Sorted(maps.Keys(all)) {
			object := all[key]
			data, err := yaml.Marshal(object.Object)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(object.GetAPIVersion(), "monitoring.coreos.com/") {
				var into any = &monitoringv1.PodMonitor{}
				if object.GetKind() == "PrometheusRule" {
					into = &monitoringv1.PrometheusRule{}
				}
				if err := yaml.UnmarshalStrict(data, into); err != nil {
					t.Errorf("values %v: %s: %v", values, key, err)
				}
				continue
			}
			out, err := tryKubectl(t.Context(), c, string(data), "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
			if err != nil || strings.Contains(out, "Warning") {
				t.Errorf("values %v: %s: %v\n%s", values, key, err, out)
			}
		}
	}
}

// TestPodSecurity asks the API server's own admission what the Pods need: nothing but what the chart's README says.
func TestPodSecurity(t *testing.T) {
	t.Parallel()
	c := startControlPlane(t)
	for _, level := range []string{"restricted", "baseline", "privileged"} {
		kubectl(t, c, "", "create", "namespace", level)
		kubectl(t, c, "", "label", "namespace", level, "pod-security.kubernetes.io/enforce="+level)
		for _, account := range []string{"cloudimage-manager", "cloudimage-agent"} {
			kubectl(t, c, "", "create", "serviceaccount", account, "-n", level)
		}
	}
	kubectl(t, c, "", "create", "priorityclass", "cloudimage-agent", "--value=1")
	for _, test := range []struct {
		workload, level, set string
		want                 string // what the API server says; nothing when it takes the Pod
	}{
		{"Deployment " + namespace + "/cloudimage-manager", "restricted", "", ""},
		{"Job " + namespace + "/cloudimage-uninstall", "restricted", "", ""},
		{"DaemonSet " + namespace + "/cloudimage-node-agent", "privileged", "", ""},
		{"DaemonSet " + namespace + "/cloudimage-node-agent", "baseline", "", `violates PodSecurity "baseline:latest": hostPath volumes (volume "store")`},
		{"DaemonSet " + namespace + "/cloudimage-node-agent", "restricted", "agent.store.prepare=false", `violates PodSecurity "restricted:latest": restricted volume types (volume "store" uses restricted volume type "hostPath")`},
	} {
		t.Run(test.workload+" in "+test.level+" "+test.set, func(t *testing.T) {
			args := []string{}
			if test.set != "" {
				args = append(args, "--set", test.set)
			}
			workload := objects(t, template(t, args...))[test.workload]
			if workload == nil {
				t.Fatalf("no %s", test.workload)
			}
			data, err := yaml.Marshal(podOf(t, workload, test.level))
			if err != nil {
				t.Fatal(err)
			}
			out, err := tryKubectl(t.Context(), c, string(data), "create", "--dry-run=server", "-f", "-")
			if (err != nil) != (test.want != "") || !strings.HasSuffix(strings.TrimSpace(out), test.want) {
				t.Errorf("error %v, output %q, want it to end in %q", err, out, test.want)
			}
		})
	}
}

// podOf is a Pod as a controller makes it from a workload.
func podOf(t *testing.T, workload *unstructured.Unstructured, namespace string) map[string]any {
	t.Helper()
	spec, found, err := unstructured.NestedMap(workload.Object, "spec", "template", "spec")
	if !found || err != nil {
		t.Fatalf("%s has no template: %v", workload.GetName(), err)
	}
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "one", "namespace": namespace},
		"spec":     spec,
	}
}
