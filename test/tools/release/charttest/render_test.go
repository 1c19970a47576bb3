package charttest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const maximal = "testdata/maximal.yaml"

func template(t *testing.T, args ...string) string {
	t.Helper()
	out, err := helm(t.Context(), t, "", append([]string{"template", release, built.chart, "--namespace", namespace}, args...)...)
	if err != nil {
		t.Fatalf("helm template %v: %v\n%s", args, err, out)
	}
	return out
}

// objects are the documents of a manifest by kind, namespace and name.
func objects(t *testing.T, manifest string) map[string]*unstructured.Unstructured {
	t.Helper()
	all := map[string]*unstructured.Unstructured{}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader([]byte(manifest)), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) == 0 {
			continue
		}
		key := fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
		if all[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		all[key] = object
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	for _, values := range [][]string{nil, {"--values", maximal}} {
		out, err := helm(t.Context(), t, "", append([]string{"lint", "--strict", built.chart}, values...)...)
		if err != nil {
			t.Errorf("helm lint %v: %v\n%s", values, err, out)
		}
	}
}

// TestWrongValues: every file begins with a line `# want: ` and what Helm must say about it.
func TestWrongValues(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/wrong/*.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files of wrong values, want at least 10: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(data), "\n")
			want, found := strings.CutPrefix(first, "# want: ")
			if !found {
				t.Fatalf("%s does not begin with # want:", file)
			}
			out, err := helm(t.Context(), t, "", "template", release, built.chart, "--values", file)
			if err == nil || !strings.Contains(out, want) {
				t.Errorf("error %v, want one, with %q in:\n%s", err, want, out)
			}
		})
	}
}

// TestSameAsKustomize: people without Helm get the same.
func TestSameAsKustomize(t *testing.T) {
	t.Parallel()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(built.repository, "config", "default"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	want := objects(t, string(manifest))
	delete(want, "Namespace /"+namespace) // helm install --create-namespace makes it
	got := objects(t, template(t))
	maps.DeleteFunc(got, func(_ string, object *unstructured.Unstructured) bool {
		return object.GetAnnotations()["helm.sh/hook"] != "" // kustomize knows no hooks
	})
	for _, all := range []map[string]*unstructured.Unstructured{want, got} {
		for _, object := range all {
			withoutHelm(object)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config/default (-) and the chart (+) differ:\n%s", diff)
	}
}

// withoutHelm removes what only Helm needs, and what says which program installed it.
func withoutHelm(object *unstructured.Unstructured) {
	labels := object.GetLabels()
	for _, key := range []string{"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/name"} {
		delete(labels, key)
	}
	if len(labels) == 0 {
		labels = nil
	}
	object.SetLabels(labels)
	annotations := object.GetAnnotations()
	delete(annotations, "helm.sh/resource-policy")
	if len(annotations) == 0 {
		annotations = nil
	}
	object.SetAnnotations(annotations)
}

// TestToggles: what is off is not rendered, and what is on is.
func TestToggles(t *testing.T) {
	t.Parallel()
	has := func(manifest map[string]*unstructured.Unstructured, prefix string) bool {
		for key := range manifest {
			if strings.HasPrefix(key, prefix) {
				return true
			}
		}
		return false
	}
	for _, c := range []struct {
		name    string
		set     string
		object  string
		without bool
	}{
		{"CustomResourceDefinitions", "crds.install=false", "CustomResourceDefinition ", true},
		{"namespace of the sources", "sourceNamespace.create=false", "Namespace ", true},
		{"disruption budget", "manager.podDisruptionBudget.enabled=false", "PodDisruptionBudget ", true},
		{"priority class", "agent.priorityClass.create=false", "PriorityClass ", true},
		{"priority class of Kubernetes", "agent.priorityClass.name=system-node-critical", "PriorityClass ", true},
		{"right to label nodes", "manager.nodeLabels=false", "ClusterRole /cloudimage-manager-node-labels", true},
		{"network policies", "networkPolicy.enabled=false", "NetworkPolicy ", true},
		{"network policy of the uninstall", "networkPolicy.managerEgress[0].ports[0].port=6443", "NetworkPolicy " + namespace + "/cloudimage-uninstall", false},
		{"flow control", "flowControl.enabled=true", "FlowSchema ", false},
		{"pod monitors", "podMonitor.enabled=true,metrics.secure=false", "PodMonitor ", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := has(objects(t, template(t)), c.object); got != c.without {
				t.Errorf("%s by default: %v, want %v", c.object, got, c.without)
			}
			if got := has(objects(t, template(t, "--set", c.set)), c.object); got == c.without {
				t.Errorf("%s with %s: %v, want %v", c.object, c.set, got, !c.without)
			}
		})
	}
}

// TestWhoReachesTheMetrics: nobody by default who has no business there, and whoever was let in by the values of an earlier release.
func TestWhoReachesTheMetrics(t *testing.T) {
	t.Parallel()
	const (
		here     = "map[podSelector:map[]]"
		labelled = " map[namespaceSelector:map[matchLabels:map[metrics:enabled]]]"
	)
	named := func(name string) string {
		return "map[namespaceSelector:map[matchLabels:map[kubernetes.io/metadata.name:" + name + "]]]"
	}
	for name, c := range map[string]struct {
		values, want string // of every rule's from; empty is everybody
	}{
		"by default":              {"", "[" + here + labelled + "]"},
		"with readers":            {"metrics: {readers: [{kind: ServiceAccount, name: a, namespace: monitoring}, {kind: ServiceAccount, name: b, namespace: monitoring}, {kind: User, name: c}]}", "[" + here + labelled + " " + named("monitoring") + "]"},
		"with a reader from here": {"metrics: {readers: [{kind: ServiceAccount, name: a, namespace: " + namespace + "}]}", "[" + here + labelled + "]"},
		"everybody":               {"networkPolicy: {metricsFrom: []}", ""},
		"as they were copied":     {"networkPolicy: {enabled: true, metricsFrom: [], managerEgress: [], agentEgress: []}", ""},
		"some": {"metrics: {readers: [{kind: ServiceAccount, name: a, namespace: elsewhere}]}\nnetworkPolicy: {metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}",
			"[" + named("monitoring") + "]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values := filepath.Join(t.TempDir(), "values.yaml")
			if err := os.WriteFile(values, []byte(c.values), 0o600); err != nil {
				t.Fatal(err)
			}
			manifest := objects(t, template(t, "--values", values))
			for _, component := range []string{"manager", "node-agent"} {
				policy := manifest["NetworkPolicy "+namespace+"/cloudimage-"+component]
				if policy == nil {
					t.Fatalf("no policy of the %s", component)
				}
				rules, _, err := unstructured.NestedSlice(policy.Object, "spec", "ingress")
				if err != nil || len(rules) != 1 {
					t.Fatalf("rules %v, error %v; want one", rules, err)
				}
				rule, _ := rules[0].(map[string]any)
				got := ""
				if from, found := rule["from"]; found {
					got = fmt.Sprint(from)
				}
				if ports := fmt.Sprint(rule["ports"]); got != c.want || ports != "[map[port:metrics protocol:TCP]]" {
					t.Errorf("the %s lets in %s to %s, want %s to metrics", component, got, ports, c.want)
				}
			}
		})
	}
}

// TestKeep: crds.keep is an annotation that Helm obeys; Secrets of people are kept in any case.
func TestKeep(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{true, false} {
		for key, object := range objects(t, template(t, "--set", fmt.Sprint("crds.keep=", keep))) {
			policy := object.GetAnnotations()["helm.sh/resource-policy"]
			want := ""
			if strings.HasPrefix(key, "Namespace ") || keep && strings.HasPrefix(key, "CustomResourceDefinition ") {
				want = "keep"
			}
			if policy != want {
				t.Errorf("with crds.keep=%v the policy of %s is %q, want %q", keep, key, policy, want)
			}
		}
	}
}

// TestNamespaces: no object and no rule names a namespace that the release is not in.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	out, err := helm(t.Context(), t, "", "template", release, built.chart, "--namespace", "elsewhere", "--set", "sourceNamespace.name=origins")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for number, line := range strings.Split(out, "\n") {
		if strings.Contains(line, namespace) || strings.Contains(line, "cloudimage-sources") {
			t.Errorf("line %d: %s", number+1, line)
		}
	}
	policy := objects(t, out)["ValidatingAdmissionPolicy /cloudimage-agent-confinement"]
	if policy == nil || !strings.Contains(fmt.Sprint(policy.Object), "system:serviceaccount:elsewhere:cloudimage-agent") {
		t.Errorf("the policy does not confine the agents of the release's namespace: %v", policy)
	}
}

// TestNamespaceOfTheSameName: the release may be where another installation would have its sources.
func TestNamespaceOfTheSameName(t *testing.T) {
	t.Parallel()
	out, err := helm(t.Context(), t, "", "template", release, built.chart, "--namespace", "cloudimage-sources", "--set", "sourceNamespace.name=origins")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"ServiceAccount cloudimage-sources/cloudimage-agent", "Role origins/cloudimage-agent"} {
		if objects(t, out)[want] == nil {
			t.Errorf("no %s", want)
		}
	}
}

// TestPlainMetricsNeedNoCertificate: the programs refuse a certificate that they would not show.
func TestPlainMetricsNeedNoCertificate(t *testing.T) {
	t.Parallel()
	if out := template(t, "--set", "metrics.secure=false,metrics.certSecret=metrics-tls"); strings.Contains(out, "metrics-cert-dir") {
		t.Error("a certificate is passed to programs that serve plain HTTP")
	}
}

func TestDigestGoesBeforeTag(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("ab", 32)
	out := template(t, "--set", "agent.image.digest="+digest, "--set", "image.tag=v9", "--set", "image.registry=mirror.example.com/ci")
	for _, want := range []string{"image: mirror.example.com/ci/cloudimage-node-agent@" + digest, "image: mirror.example.com/ci/cloudimage-manager:v9"} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("no %q", want)
		}
	}
}

// TestSchemaIsClosed: a misspelt value is refused wherever it is, not only where testdata/wrong has one.
func TestSchemaIsClosed(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(built.chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	closed := 0
	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch node := node.(type) {
		case []any:
			for i, child := range node {
				walk(fmt.Sprintf("%s/%d", path, i), child)
			}
		case map[string]any:
			if _, names := node["properties"]; names {
				closed++
				if node["additionalProperties"] != false {
					t.Errorf("%s takes any other value, too", path)
				}
			}
			for key, child := range node {
				if key != "if" { // a condition refuses nothing by itself
					walk(path+"/"+key, child)
				}
			}
		}
	}
	walk("", schema)
	if closed < 20 {
		t.Errorf("only %d objects were found", closed)
	}
}
