package system

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestNewCredentialsNeedNoEdit corrects a Secret after the server refused what was in it. The agents look at it about once a minute.
func TestNewCredentialsNeedNoEdit(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "corrected", 2)
	f := g.serve(t, 2*mib, 1, origin.File{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer right" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		suite.origin.ServeHTTP(w, r)
	}))
	certificate := serveWithOwnAuthority(t, server)
	create(t, &corev1.ConfigMap{ObjectMeta: inSources("corrected-ca"), Data: map[string]string{"ca.crt": certificate}})
	secret := &corev1.Secret{ObjectMeta: inSources("corrected"), StringData: map[string]string{"token": "wrong"}}
	secret.Annotations = map[string]string{v1alpha1.AllowedHostsAnnotation: "127.0.0.1"}
	create(t, secret)
	g.apply(t, "corrected", f, func(spec *v1alpha1.CloudImageSpec) {
		spec.Source.HTTP = &v1alpha1.HTTPSource{
			URL: server.URL + f.urlPath, SecretRef: &v1alpha1.ObjectReference{Name: "corrected"}, CABundleRef: &v1alpha1.ObjectReference{Name: "corrected-ca"},
		}
	})
	waitCondition(t, "corrected", v1alpha1.ConditionStalled)
	right := client.RawPatch(types.MergePatchType, []byte(`{"stringData":{"token":"right"}}`))
	if err := suite.client.Patch(t.Context(), secret, right); err != nil {
		t.Fatal(err)
	}
	within(t, 3*patience, "two nodes that tried the new credentials", func(ctx context.Context) error {
		image := &v1alpha1.CloudImage{}
		if err := suite.client.Get(ctx, client.ObjectKey{Name: "corrected"}, image); err != nil {
			return err
		}
		if image.Status.Nodes.Ready != 2 {
			return fmt.Errorf("status is %+v", image.Status)
		}
		return nil
	})
	waitCondition(t, "corrected", v1alpha1.ConditionReady)
	g.requireOnly(t, f.digest)
}
