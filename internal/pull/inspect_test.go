package pull

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// TestTailFirst: what shows only at the end of an object is found by one small request,
// before space is taken. Nobody is asked for the end of what is a disk by its size, and a
// server that does not answer that request loses nothing by it.
func TestTailFirst(t *testing.T) {
	t.Parallel()
	const disk = 24<<20 + 8<<10 // so that the last unit is more than the footer
	with := func(tail string, size int) []byte {
		return append(pulltest.RandomBytes(1, disk), append([]byte(tail), make([]byte, size-len(tail))...)...)
	}
	vhd, short, sector := with("conectix", 512), with("conectix", 511), with("data", 512)
	tails := func(behaviour pulltest.Behaviour) pulltest.Behaviour { return pulltest.When(asksTail, behaviour) }
	tests := map[string]struct {
		object     []byte
		request    Request
		behaviours []pulltest.Behaviour
		want       Reason
		requests   int32   // for the last bytes, wanted
		sentMost   float64 // objects
	}{
		"VHD":                    {vhd, Request{}, nil, UnsupportedContent, 1, 0.3},
		"VHD as raw":             {vhd, Request{Format: FormatRaw}, nil, UnsupportedContent, 1, 0.3},
		"VHD of 511 bytes more":  {short, Request{Format: FormatRaw}, nil, UnsupportedContent, 1, 0.3},
		"VHD, opaque":            {vhd, Request{Format: FormatOpaque}, nil, "", 0, 1.1},
		"VHD, one connection":    {vhd, Request{Connections: 1}, nil, UnsupportedContent, 0, 1.1},
		"VHD, no ranges":         {vhd, Request{}, be(pulltest.NoRanges), UnsupportedContent, 0, 1.1},
		"VHD, the tail refused":  {vhd, Request{}, be(tails(pulltest.Status(http.StatusServiceUnavailable))), UnsupportedContent, 1, 1.1},
		"a sector more":          {sector, Request{}, nil, "", 1, 1.1},
		"the tail of another":    {sector, Request{}, be(tails(pulltest.Header("ETag", `"v2"`))), "", 1, 1.1},
		"the tail never answers": {sector, Request{StallTimeout: 3 * time.Second}, be(tails(pulltest.Hold(never()))), "", 1, 1.1},
		"a disk":                 {sector[:disk], Request{}, nil, "", 0, 1.1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			count := pulltest.When(asksTail, func(*pulltest.Exchange) { asked.Add(1) })
			server := pulltest.New(t, pulltest.Bytes(tt.object), append(tt.behaviours, count)...)
			store := openStore(t)
			r := tt.request
			r.URL = server.URL
			_, err := store.Pull(t.Context(), r, nil)
			wantReason(t, err, tt.want)
			if sent := float64(server.BytesSent()) / disk; sent > tt.sentMost {
				t.Errorf("the server sent %.2f objects, want at most %.2f", sent, tt.sentMost)
			}
			if got := asked.Load(); got != tt.requests {
				t.Errorf("%d requests for the last bytes, want %d", got, tt.requests)
			}
		})
	}
}

// asksTail reports whether a request is for an object's last bytes and no others.
func asksTail(x *pulltest.Exchange) bool {
	size := x.Content.Size()
	return x.HasRange && x.Asked == pulltest.Span{Start: size - 512, End: size}
}
