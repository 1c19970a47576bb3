package system

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestFault18FaultyOrigin lets servers answer wrongly: whatever the agent makes of it, a published name never stands over wrong bytes,
// and once the server is well the image becomes ready.
func TestFault18FaultyOrigin(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		fault origin.Fault
	}{
		{"no-ranges", origin.NoRanges},
		{"shifted-content-range", origin.ShiftedContentRange},
		{"shifted-bytes", origin.ShiftedBytes},
		{"short-chunked", origin.ShortChunked},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g := newGroup(t, test.name, 1)
			f := g.serve(t, 16*mib, uint64(i), origin.File{Fault: test.fault})
			g.apply(t, test.name, f, nil)
			eventually(t, "three answers, or one whole", func(context.Context) error {
				ended := 0
				for _, request := range suite.origin.Requests(f.urlPath) {
					if request.End.IsZero() {
						continue
					}
					if ended++; ended == 3 || request.Status == http.StatusOK {
						return nil
					}
				}
				return fmt.Errorf("%d requests have ended", ended)
			})
			blobs(t, g.nodes[0]) // fails the test when one has wrong bytes
			suite.origin.Serve(f.urlPath, origin.File{Path: f.Path})
			waitCondition(t, test.name, v1alpha1.ConditionReady)
			g.requireOnly(t, f.digest)
			remove(t, test.name)
			g.requireOnly(t)
		})
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "missing", 1)
	f := g.serve(t, mib, 1, origin.File{})
	f.urlPath = "/no-such-file"
	g.apply(t, "missing", f, nil)
	image := waitCondition(t, "missing", v1alpha1.ConditionStalled)
	if len(image.Status.Failures) != 1 || image.Status.Failures[0].Reason != v1alpha1.ReasonNotFound {
		t.Errorf("status %+v, want the failure NotFound", image.Status)
	}
	g.requireOnly(t)
}
