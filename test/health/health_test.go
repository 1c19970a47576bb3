// Package health shows what the manager writes to the tools that judge it. It is a module of its own because
// their libraries are heavy.
package health

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// expectation is a line of expected.yaml.
type expectation struct {
	Object  string `json:"object"`
	Flux    string `json:"flux"`
	Argo    string `json:"argo"`
	Because string `json:"because"`
}

func expectations(t *testing.T) []expectation {
	t.Helper()
	text, err := os.ReadFile("expected.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var expected []expectation
	if err := yaml.UnmarshalStrict(text, &expected); err != nil {
		t.Fatal(err)
	}
	return expected
}

func TestWhatFluxMakesOfEachObject(t *testing.T) {
	t.Parallel()
	expected := expectations(t)
	stored, err := filepath.Glob(filepath.Join("objects", "*.yaml"))
	if err != nil || len(stored) != len(expected) {
		t.Errorf("%d objects are stored, %d expected (%v)", len(stored), len(expected), err)
	}
	for _, want := range expected {
		t.Run(want.Object, func(t *testing.T) {
			t.Parallel()
			object := &unstructured.Unstructured{}
			text, err := os.ReadFile(filepath.Join("objects", want.Object+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			text, err = yaml.YAMLToJSON(text)
			if err != nil {
				t.Fatal(err)
			}
			if err := object.UnmarshalJSON(text); err != nil { // integers stay integers
				t.Fatal(err)
			}
			got, err := status.Compute(object)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Status) != want.Flux {
				t.Errorf("Flux says %s: %s; want %s because %s", got.Status, got.Message, want.Flux, want.Because)
			}
		})
	}
}
