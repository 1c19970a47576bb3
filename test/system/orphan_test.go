package system

import (
	"context"
	"errors"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestObjectsThatNobodyCollects: the garbage collector deletes what names an owner that is gone, and nothing else.
func TestObjectsThatNobodyCollects(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "orphan", 1)
	key := client.ObjectKey{Name: g.nodes[0].Name}
	cache := &v1alpha1.NodeImageCache{}
	eventually(t, "the object of the node", func(ctx context.Context) error { return suite.client.Get(ctx, key, cache) })
	stray := &v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: "orphan-never-was"}, Spec: v1alpha1.NodeImageCacheSpec{NodeUID: "never"}}
	if err := suite.client.Create(t.Context(), stray); err != nil {
		t.Fatal(err)
	}
	ownerless := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"ownerReferences":null}}`))
	if err := suite.client.Patch(t.Context(), cache.DeepCopy(), ownerless); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an owner again", func(ctx context.Context) error {
		now := &v1alpha1.NodeImageCache{}
		if err := suite.client.Get(ctx, key, now); err != nil {
			return err
		}
		if now.UID != cache.UID || len(now.OwnerReferences) != 1 || string(now.OwnerReferences[0].UID) != now.Spec.NodeUID {
			return fmt.Errorf("it has the uid %s and the owners %+v", now.UID, now.OwnerReferences)
		}
		return nil
	})
	eventually(t, "the end of an object without a Node", func(ctx context.Context) error {
		switch err := suite.client.Get(ctx, client.ObjectKeyFromObject(stray), stray); {
		case apierrors.IsNotFound(err):
			return nil
		case err != nil:
			return err
		}
		return errors.New("it is still there")
	})
}
