package controller

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// openAPI is what these tests read of a CustomResourceDefinition's.
type openAPI struct {
	Type                 string             `json:"type"`
	Format               string             `json:"format"`
	Minimum, Maximum     *float64           `json:",omitempty"`
	MaxLength, MaxItems  *int64             `json:",omitempty"`
	Enum                 []any              `json:"enum"`
	Properties           map[string]openAPI `json:"properties"`
	Items                *openAPI           `json:"items"`
	AdditionalProperties *openAPI           `json:"additionalProperties"`
	IntOrString          bool               `json:"x-kubernetes-int-or-string"`
}

// schemas are the shipped schemas, by kind.
func schemas(t *testing.T) map[string]openAPI {
	t.Helper()
	paths, err := filepath.Glob("../../config/crd/bases/*.yaml")
	if err != nil || len(paths) != 2 {
		t.Fatalf("CustomResourceDefinitions %q, %v", paths, err)
	}
	found := map[string]openAPI{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var crd struct {
			Spec struct {
				Names    struct{ Kind string }
				Versions []struct {
					Schema struct{ OpenAPIV3Schema openAPI }
				}
			}
		}
		if err := yaml.Unmarshal(text, &crd); err != nil {
			t.Fatal(err)
		}
		found[crd.Spec.Names.Kind] = crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	}
	return found
}

// walk visits a schema and all below it.
func walk(path string, s openAPI, visit func(path string, s openAPI)) {
	visit(path, s)
	for name, property := range s.Properties {
		walk(path+"."+name, property, visit)
	}
	if s.Items != nil {
		walk(path+"[]", *s.Items, visit)
	}
	if s.AdditionalProperties != nil {
		walk(path+"{}", *s.AdditionalProperties, visit)
	}
}

// unbounded are the fields whose schema is not this API's: of conditions of
// apimachinery, which rules of their lists bound, and of label selectors, which
// people with the right to fill disks write; the manager repeats one of them.
func unbounded(path string) bool {
	return strings.Contains(path, ".conditions[].") || strings.Contains(path, ".spec.nodeSelector.") || strings.Contains(path, ".status.warmedNodeSelector.") ||
		path == "CloudImage.metadata" || strings.HasSuffix(path, ".kind") || strings.HasSuffix(path, ".apiVersion")
}

// TestEverythingHasBounds: one token could store megabytes in a field without, or a number that nobody can add.
func TestEverythingHasBounds(t *testing.T) {
	t.Parallel()
	fields := 0
	for kind, root := range schemas(t) {
		walk(kind, root, func(path string, s openAPI) {
			if unbounded(path) {
				return
			}
			fields++
			switch {
			case s.IntOrString && s.MaxLength == nil, s.Type == "string" && s.MaxLength == nil && len(s.Enum) == 0:
				t.Errorf("%s: a string without maxLength", path)
			case s.Type == "array" && s.MaxItems == nil:
				t.Errorf("%s: a list without maxItems", path)
			case s.Type == "integer" && (s.Minimum == nil || s.Maximum == nil):
				t.Errorf("%s: an integer without minimum or maximum", path)
			case s.Type == "integer" && *s.Maximum >= 1<<63:
				t.Errorf("%s: the maximum %g is no int64: an API server may take it for the least one", path, *s.Maximum)
			}
		})
	}
	if fields < 70 {
		t.Errorf("only %d fields were found", fields)
	}
}

// TestBoundsAreThoseOfTheSchema keeps the constants and the markers together.
func TestBoundsAreThoseOfTheSchema(t *testing.T) {
	t.Parallel()
	image := schemas(t)["NodeImageCache"].Properties["status"].Properties["images"].Items.Properties
	for field, want := range map[string]float64{
		"sizeBytes": v1alpha1.MaxBytes, "averageBytesPerSecond": v1alpha1.MaxBytesPerSecond, "attempts": v1alpha1.MaxAttempts, "retry": v1alpha1.MaxAttempts,
	} {
		if got := *image[field].Maximum; got != want {
			t.Errorf("the maximum of %s is %g, want %g", field, got, want)
		}
	}
}
