package system

import (
	"context"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
)

// TestFault26AgentWritesAnotherNodesObject uses the agents' own tokens by hand.
func TestFault26AgentWritesAnotherNodesObject(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "confined", 2)
	for _, node := range g.nodes {
		eventually(t, "the object of "+node.Name, func(ctx context.Context) error {
			return suite.client.Get(ctx, client.ObjectKey{Name: node.Name}, &v1alpha1.NodeImageCache{})
		})
	}
	own, other := g.nodes[0].Name, g.nodes[1].Name
	bound := clientOf(t, kubeconfigOf(g.nodes[0]))
	unbound := filepath.Join(t.TempDir(), "kubeconfig")
	err := suite.plane.WriteServiceAccountKubeconfig(t.Context(), unbound, harness.Namespace, "cloudimage-agent", nil)
	if err != nil {
		t.Fatal(err)
	}
	status := func(c client.Client, node string) error {
		return c.Status().Patch(t.Context(), cacheNamed(node), client.RawPatch(types.MergePatchType, []byte(`{"status":{"agentVersion":"forged"}}`)))
	}
	spec := func(c client.Client, node string) error {
		return c.Patch(t.Context(), cacheNamed(node), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"images":[]}}`)))
	}
	elsewhere, machine := cacheNamed("confined-9"), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: own}}
	elsewhere.Spec.NodeUID = "forged"
	for _, tt := range []struct {
		name    string
		err     error
		allowed bool
	}{
		{"its own status", status(bound, own), true},
		{"another node's status", status(bound, other), false},
		{"its own orders", spec(bound, own), false},
		{"another node's orders", spec(bound, other), false},
		{"deleting its own object", bound.Delete(t.Context(), cacheNamed(own)), false},
		{"deleting another node's object", bound.Delete(t.Context(), cacheNamed(other)), false},
		{"creating another node's object", bound.Create(t.Context(), elsewhere), false},
		{"a Node", bound.Patch(t.Context(), machine, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`))), false},
		{"all Secrets of the sources", bound.List(t.Context(), &corev1.SecretList{}, client.InNamespace(harness.SourceNamespace)), false},
		{"a Secret of the operator", bound.Get(t.Context(), client.ObjectKey{Namespace: harness.Namespace, Name: "any"}, &corev1.Secret{}), false},
		{"any status, with a token bound to no Pod", status(clientOf(t, unbound), own), false},
		{"any status, as an administrator", status(suite.client, other), true},
	} {
		if tt.allowed && tt.err != nil {
			t.Errorf("%s: %v", tt.name, tt.err)
		}
		if !tt.allowed && !apierrors.IsForbidden(tt.err) {
			t.Errorf("%s: error %v, want Forbidden", tt.name, tt.err)
		}
	}
}

func cacheNamed(node string) *v1alpha1.NodeImageCache {
	return &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: node}}
}

func clientOf(t *testing.T, kubeconfig string) client.Client {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	c, err := client.New(config, client.Options{Scheme: suite.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
