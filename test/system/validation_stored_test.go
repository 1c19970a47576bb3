package system

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// TestStoredURLsStayWorkable: what an earlier version took and this one refuses keeps
// its finalizer, its status and its other fields writable, the source's among them.
func TestStoredURLsStayWorkable(t *testing.T) {
	t.Parallel()
	const group, url = "stored.example.com", "https://bücher.example:99999/a"
	install := func(withRules bool) {
		t.Helper()
		definition := copyOfTheAPI(t, group, withRules)
		old := definition.DeepCopy()
		err := suite.client.Get(t.Context(), client.ObjectKeyFromObject(definition), old)
		if err == nil {
			definition.SetResourceVersion(old.GetResourceVersion())
			err = suite.client.Update(t.Context(), definition)
		} else {
			err = suite.client.Create(t.Context(), definition)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	object := func(name, url string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": group + "/v1alpha1", "kind": "CloudImage", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"source": map[string]any{"http": map[string]any{"url": url}}},
		}}
	}
	install(false)
	stored := object("stored", url)
	eventually(t, "the copy of the API is served", func(ctx context.Context) error {
		return suite.client.Create(ctx, stored.DeepCopy())
	})
	install(true)
	eventually(t, "the rules are in force", func(ctx context.Context) error {
		if err := suite.client.Create(ctx, object("new", url), client.DryRunAll); err == nil || !strings.Contains(err.Error(), "port from 1") {
			return errors.Join(errors.New("a new object is accepted"), err)
		}
		return nil
	})

	key := client.ObjectKeyFromObject(stored)
	for _, step := range []struct {
		name, patch string
		refused     bool
	}{
		{"a label and a finalizer", `{"metadata":{"labels":{"a":"b"},"finalizers":["example.com/x"]}}`, false},
		{"the finalizer goes", `{"metadata":{"finalizers":null}}`, false},
		{"another field", `{"spec":{"suspend":true}}`, false},
		{"another field of the source", `{"spec":{"source":{"http":{"secretRef":{"name":"s"}}}}}`, false},
		{"another URL of that kind", `{"spec":{"source":{"http":{"url":"https://bücher.example:99999/b"}}}}`, true},
		{"a URL that can be asked", `{"spec":{"source":{"http":{"url":"https://xn--bcher-kva.example/b"}}}}`, false},
		{"and back", `{"spec":{"source":{"http":{"url":"` + url + `"}}}}`, true},
	} {
		target := object(key.Name, url)
		err := suite.client.Patch(t.Context(), target, client.RawPatch("application/merge-patch+json", []byte(step.patch)))
		if (err != nil) != step.refused {
			t.Errorf("%s: %v", step.name, err)
		}
	}
}

// copyOfTheAPI is the definition of CloudImages in another group, with or without the
// rules that compare a value with the stored one.
func copyOfTheAPI(t *testing.T, group string, withRules bool) *unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile("../../config/crd/bases/prefetch.cloudimage.dev_cloudimages.yaml")
	if err != nil {
		t.Fatal(err)
	}
	definition := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(text, &definition.Object); err != nil {
		t.Fatal(err)
	}
	definition.SetName("cloudimages." + group)
	spec := definition.Object["spec"].(map[string]any)
	spec["group"] = group
	names := spec["names"].(map[string]any)
	delete(names, "shortNames")
	delete(names, "categories")
	if !withRules {
		withoutRatchet(definition.Object)
	}
	return definition
}

func withoutRatchet(value any) {
	switch value := value.(type) {
	case map[string]any:
		if rules, ok := value["x-kubernetes-validations"].([]any); ok {
			var kept []any
			for _, rule := range rules {
				if _, ratchets := rule.(map[string]any)["optionalOldSelf"]; !ratchets {
					kept = append(kept, rule)
				}
			}
			value["x-kubernetes-validations"] = kept
		}
		for _, inner := range value {
			withoutRatchet(inner)
		}
	case []any:
		for _, inner := range value {
			withoutRatchet(inner)
		}
	}
}
