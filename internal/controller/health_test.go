package controller

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// healthObjects hold what the planner makes of each situation, for test/health to
// show them to the tools that judge them.
const healthObjects = "../../test/health/objects"

var update = flag.Bool("update", false, "write test/health/objects anew")

// situations end in the state that their name says.
var situations = map[string]func(w *world, image *v1alpha1.CloudImage){
	"not-seen-yet": func(*world, *v1alpha1.CloudImage) {},
	"just-applied": func(w *world, _ *v1alpha1.CloudImage) { w.settle() },
	"pulling": func(w *world, _ *v1alpha1.CloudImage) {
		w.settle()
		w.report("node-001", "debian", func(s *v1alpha1.ImageStatus) { s.State = v1alpha1.StatePulling })
		w.settle()
	},
	"warm": func(w *world, _ *v1alpha1.CloudImage) { w.warm() },
	"warm-and-one-node-away": func(w *world, _ *v1alpha1.CloudImage) {
		w.warm()
		w.lose(1)
	},
	"warm-and-a-node-joins": func(w *world, _ *v1alpha1.CloudImage) {
		w.warm()
		w.s.Nodes = append(w.s.Nodes, Node{Name: "node-009", UID: "uid-009", HasAgent: true, AgentReady: true})
		w.settle()
	},
	"warm-and-one-repairs": func(w *world, _ *v1alpha1.CloudImage) {
		w.warm()
		w.report("node-000", "debian", func(s *v1alpha1.ImageStatus) { s.State, s.Digest = v1alpha1.StatePulling, "" })
		w.settle()
	},
	"warm-and-all-repair": func(w *world, _ *v1alpha1.CloudImage) {
		w.warm()
		for _, node := range w.s.Nodes {
			w.report(node.Name, "debian", func(s *v1alpha1.ImageStatus) { s.State, s.Digest = v1alpha1.StatePulling, "" })
		}
		w.settle()
	},
	"warm-and-edited": func(w *world, image *v1alpha1.CloudImage) {
		w.warm()
		image.Spec.Digest = digestB
		image.Generation++ // and the manager has not looked yet
	},
	"warm-and-requested-again": func(w *world, image *v1alpha1.CloudImage) {
		w.warm()
		image.Annotations = map[string]string{v1alpha1.RequestedAtAnnotation: "2026-01-02T03:04:05Z"} // and the manager has not looked yet
	},
	"warm-and-the-selector-widens": func(w *world, image *v1alpha1.CloudImage) {
		w.labelled()
		w.s.Nodes[1].Labels = map[string]string{"pool": "vms"}
		image.Spec.NodeSelector = canary()
		w.settle()
		w.report("node-000", "debian", ready(digestA))
		w.settle()
		image.Spec.NodeSelector = nil
		image.Generation++
		w.settle()
	},
	"warm-and-the-selector-narrows": func(w *world, image *v1alpha1.CloudImage) {
		w.labelled()
		w.s.Nodes[1].Labels = map[string]string{"pool": "vms"}
		w.warm()
		image.Spec.NodeSelector = canary()
		image.Generation++
		w.settle()
	},
	"failed-for-good": func(w *world, _ *v1alpha1.CloudImage) { w.failAll(v1alpha1.ReasonDigestMismatch) },
	"failed-and-tries-again": func(w *world, _ *v1alpha1.CloudImage) {
		w.failAll(v1alpha1.ReasonNotFound)
		w.now = w.now.Add(probeEvery)
		w.settle()
		w.report(w.retrying("debian")[0], "debian", func(s *v1alpha1.ImageStatus) { s.State, s.Reason = v1alpha1.StatePulling, "" })
		w.settle()
	},
	"one-is-tried-again-by-itself": func(w *world, _ *v1alpha1.CloudImage) {
		w.settle()
		w.report("node-001", "debian", failed(v1alpha1.ReasonSourceUnavailable))
		w.settle()
	},
	"no-room": func(w *world, _ *v1alpha1.CloudImage) { w.failAll(v1alpha1.ReasonInsufficientSpace) },
	"selects-no-node": func(w *world, image *v1alpha1.CloudImage) {
		image.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"pool": "vms"}}
		w.settle()
	},
	"selects-only-terminating-nodes": func(w *world, _ *v1alpha1.CloudImage) {
		w.settle()
		w.report("node-001", "debian", func(s *v1alpha1.ImageStatus) { s.State = v1alpha1.StatePulling })
		w.s.Nodes[0].Deleting, w.s.Nodes[1].Deleting = true, true
		w.settle()
	},
	"no-agent-ready": func(w *world, _ *v1alpha1.CloudImage) {
		w.settle()
		w.lose(0)
		w.lose(1)
	},
	"suspended": func(w *world, image *v1alpha1.CloudImage) {
		image.Spec.Suspend = true
		w.settle()
	},
	"suspended-and-warm": func(w *world, image *v1alpha1.CloudImage) {
		w.warm()
		image.Spec.Suspend = true
		w.settle()
	},
	"wrong-selector": func(w *world, image *v1alpha1.CloudImage) {
		image.Spec.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
		w.settle()
	},
	"being-removed": func(w *world, image *v1alpha1.CloudImage) {
		w.warm()
		image.DeletionTimestamp = &metav1.Time{Time: w.now}
		w.settle()
	},
}

func (w *world) warm() {
	w.t.Helper()
	w.settle()
	for _, node := range w.s.Nodes {
		w.report(node.Name, "debian", ready(digestA))
	}
	w.settle()
}

func (w *world) failAll(reason string) {
	w.t.Helper()
	w.settle()
	for _, node := range w.s.Nodes {
		w.report(node.Name, "debian", failed(reason))
	}
	w.settle()
}

// lose takes a node's agent away for long enough.
func (w *world) lose(i int) {
	w.t.Helper()
	w.s.Nodes[i].AgentReady, w.s.Nodes[i].AgentTrouble = false, "its agent's Pod is Pending (cloudimage-node-agent-x7k2p)"
	w.settle()
	w.now = w.now.Add(unavailableAfter)
	w.settle()
}

// TestHealthObjects keeps test/health/objects true: go test -run TestHealthObjects
// ./internal/controller -update writes them.
func TestHealthObjects(t *testing.T) {
	t.Parallel()
	if *update {
		if err := os.RemoveAll(healthObjects); err != nil {
			t.Fatal(err)
		}
	}
	for name, act := range situations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2)
			image := w.apply("debian", func(i *v1alpha1.CloudImage) {
				i.TypeMeta = metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "CloudImage"}
				i.CreationTimestamp = metav1.Time{Time: w.now.Add(-time.Minute)}
			})
			act(w, image)
			got, err := yaml.Marshal(image)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(healthObjects, name+".yaml")
			if *update {
				if err := os.MkdirAll(healthObjects, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("%s is not what the planner writes any more; run with -update and look at test/health/expected.yaml: %s", path, diff)
			}
		})
	}
	stored, err := filepath.Glob(filepath.Join(healthObjects, "*.yaml"))
	if err != nil || (!*update && len(stored) != len(situations)) {
		t.Errorf("%d objects are stored, %d situations known (%v)", len(stored), len(situations), err)
	}
}
