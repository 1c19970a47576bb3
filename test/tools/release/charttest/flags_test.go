package charttest

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

var flagPattern = regexp.MustCompile(`(?m)^ +--([a-z-]+)`)

// TestFlags: the programs know every flag that the chart passes, and the chart can pass every flag that they know.
func TestFlags(t *testing.T) {
	t.Parallel()
	defaults, all := objects(t, template(t)), objects(t, template(t, "--values", maximal))
	for _, test := range []struct {
		program, workload string
		help              []string
		elsewhere         []string // flags that have another way than a value
	}{
		{built.manager, "Deployment " + namespace + "/cloudimage-manager", nil,
			[]string{"kubeconfig", "agent-selector", "agent-service-account", "confinement-policy"}}, // the chart's objects have fixed names and labels
		{built.agent, "DaemonSet " + namespace + "/cloudimage-node-agent", []string{"run"},
			[]string{"kubeconfig", "node-name", "own-address"}}, // by the environment
	} {
		t.Run(test.workload, func(t *testing.T) {
			t.Parallel()
			passed := args(t, defaults[test.workload])
			// Flags are read from left to right, so an unknown one comes before --help.
			cmd := exec.CommandContext(t.Context(), test.program, append(passed, "--help")...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s %v: %v\n%s", test.program, passed, err, out)
			}
			help, err := exec.CommandContext(t.Context(), test.program, append(test.help, "--help")...).CombinedOutput()
			if err != nil {
				t.Fatalf("--help: %v\n%s", err, help)
			}
			known := strings.Join(append(args(t, all[test.workload]), passed...), "\n") + "\n--metrics-secure="
			for _, match := range flagPattern.FindAllSubmatch(help, -1) {
				flag := string(match[1])
				if strings.HasPrefix(flag, "zap-") || slices.Contains(test.elsewhere, flag) {
					continue
				}
				if !strings.Contains(known, "--"+flag+"=") {
					t.Errorf("no value of testdata/maximal.yaml sets --%s", flag)
				}
			}
		})
	}
}

// args are those of the first container of a workload.
func args(t *testing.T, workload *unstructured.Unstructured) []string {
	t.Helper()
	containers, _, err := unstructured.NestedSlice(workload.Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) == 0 {
		t.Fatalf("no containers: %v", err)
	}
	container, ok := containers[0].(map[string]any)
	if !ok {
		t.Fatal("a container is no object")
	}
	list, _, err := unstructured.NestedStringSlice(container, "args")
	if err != nil {
		t.Fatal(err)
	}
	return list
}
