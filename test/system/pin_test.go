package system

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestFirstNodePinsTheDigest leaves the digest out, which needs https: one node finds it, the others must match it.
func TestFirstNodePinsTheDigest(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "pinned", 3)
	f := g.serve(t, 8*mib, 1, origin.File{})
	g.apply(t, "pinned", f, func(spec *v1alpha1.CloudImageSpec) {
		spec.Digest = ""
		spec.Download.MaxBytesPerSecond = resource.NewQuantity(4*mib, resource.BinarySI) // so that nodes would overlap
		spec.Source.HTTP.URL = suite.secureURL + f.urlPath
	})
	image := waitCondition(t, "pinned", v1alpha1.ConditionReady)
	if image.Status.Digest != f.digest || image.Status.Nodes.Ready != 3 {
		t.Errorf("status %+v, want digest %s on 3 nodes", image.Status, f.digest)
	}
	g.requireOnly(t, f.digest)

	requests := suite.origin.Requests(f.urlPath)
	first := requests[0].Node
	second := slices.IndexFunc(requests, func(r origin.Request) bool { return r.Node != first })
	for _, request := range requests {
		if request.Node == first && request.End.After(requests[second].Start) {
			t.Errorf("%s began before %s, which finds the digest, had finished %+v", requests[second].Node, first, request)
		}
	}
}
