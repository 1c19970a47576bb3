package pull

import (
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestFirstRangeIsTheObject cuts the answer that holds all of a small object, whose
// server has another one of the same size from then on. Nothing tells the two
// apart, so that the result has to come in one response.
func TestFirstRangeIsTheObject(t *testing.T) {
	t.Parallel()
	first, second := pulltest.Random(1, 3<<20), pulltest.Random(2, 3<<20)
	for name, tt := range map[string]struct {
		cut  int64
		want pulltest.Content
	}{
		"not cut":           {pulltest.Never, first},
		"cut in the middle": {3<<19 + 5, second},
		"cut at a unit":     {2 << 20, second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pulltest.New(t, first, pulltest.NoHeader("ETag"), pulltest.OnNumber(0, pulltest.Cut(tt.cut)),
				pulltest.After(1, func(x *pulltest.Exchange) { x.Content = second }))
			result := mustPull(t, openStore(t), Request{URL: server.URL})
			if want := pulltest.Digest(tt.want); result.Digest != want {
				t.Errorf("the digest is %s, want %s", result.Digest, want)
			}
			if result.Parallel || result.Connections != 1 {
				t.Errorf("result %+v", result)
			}
		})
	}
}
