package system

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// selecting is an image that nobody pulls.
func selecting(name string, selector *metav1.LabelSelector) *v1alpha1.CloudImage {
	image := &v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{Name: name}}
	image.Spec.Source.HTTP = &v1alpha1.HTTPSource{URL: "https://images.example.com/" + name}
	image.Spec.NodeSelector, image.Spec.Suspend = selector, true
	return image
}

func without(label string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "pool", Operator: metav1.LabelSelectorOpExists}, {Key: label, Operator: metav1.LabelSelectorOpDoesNotExist},
	}}
}

// TestSelectorOnTheImagesOwnLabel is about what the manager would have to take back as soon as it was done.
func TestSelectorOnTheImagesOwnLabel(t *testing.T) {
	t.Parallel()
	const own = v1alpha1.NodeLabelPrefix + "own"
	for name, tt := range map[string]struct {
		selector *metav1.LabelSelector
		refused  bool
	}{
		"the label":            {&metav1.LabelSelector{MatchLabels: map[string]string{"pool": "vms", own: "0123456789ab"}}, true},
		"an expression":        {without(own), true},
		"another image's":      {without(own + "-er"), false},
		"another's as a label": {&metav1.LabelSelector{MatchLabels: map[string]string{own + "-er": "0123456789ab"}}, false},
		"nothing":              {&metav1.LabelSelector{}, false},
		"none":                 {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := suite.client.Create(t.Context(), selecting("own", tt.selector), client.DryRunAll)
			if (err != nil) != tt.refused || err != nil && !strings.Contains(err.Error(), "spec.nodeSelector: Invalid value: nodeSelector must not name the label") {
				t.Errorf("the answer is %v", err)
			}
		})
	}
}

// TestSelectorFromBeforeTheRule stores an object as the release before took it: all of it can be written but its selector.
func TestSelectorFromBeforeTheRule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "selector")
	const own, crd = v1alpha1.NodeLabelPrefix + "stored", "crd/cloudimages.prefetch.cloudimage.dev"
	const rules = "/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-validations"
	if out, err := w.cluster.Kubectl(t.Context(), nil, "patch", crd, "--type=json", "--patch", `[{"op":"remove","path":"`+rules+`"}]`); err != nil {
		t.Fatal(err, out)
	}
	image := selecting("stored", without(own))
	eventually(t, "an API server without the rule", func(ctx context.Context) error { return w.client.Create(ctx, image) })
	crds := filepath.Join("..", "..", "config", "crd")
	if out, err := w.cluster.Kubectl(t.Context(), nil, "apply", "--server-side", "--force-conflicts", "-k", crds); err != nil {
		t.Fatal(err, out)
	}
	eventually(t, "an API server with the rule", func(ctx context.Context) error {
		if err := w.client.Create(ctx, selecting("stored-2", without(own+"-2")), client.DryRunAll); err == nil {
			return errors.New("it takes what it should refuse")
		}
		return nil
	})
	patch := func(what, data string, refused bool, subresource ...string) {
		t.Helper()
		var err error
		if raw := client.RawPatch(types.MergePatchType, []byte(data)); len(subresource) > 0 {
			err = w.client.Status().Patch(t.Context(), image, raw)
		} else {
			err = w.client.Patch(t.Context(), image, raw)
		}
		if (err != nil) != refused {
			t.Errorf("%s: %v", what, err)
		}
	}
	patch("a finalizer", `{"metadata":{"finalizers":["`+v1alpha1.Finalizer+`"]}}`, false)
	patch("a status", `{"status":{"observedGeneration":1}}`, false, "status")
	patch("a limit", `{"spec":{"download":{"connections":3}}}`, false)
	patch("another selector on the label", `{"spec":{"nodeSelector":{"matchLabels":{"zone":"a"}}}}`, true)
	if err := w.client.Delete(t.Context(), image.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	patch("a status while it is being deleted", `{"status":{"observedGeneration":2}}`, false, "status")
	patch("the finalizer's removal", `{"metadata":{"finalizers":null}}`, false)
}
