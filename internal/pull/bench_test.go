package pull

import (
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull/pulltest"
)

// BenchmarkPull measures whole pulls from a server of this process: run it with
// -benchtime=1x. With T* the least time that the network, one SHA-256 stream and
// the number of connections leave, T*/T is its score; connections is how many
// carried bytes at once. the store is made below TMPDIR.
func BenchmarkPull(b *testing.B) {
	const size = 2 << 30
	block := pulltest.RandomBytes(1, 5<<20+3)
	for _, bench := range []struct {
		name       string
		behaviours []pulltest.Behaviour
		network    float64 // bytes per second over all eight connections; 0 is unlimited
	}{
		{"unthrottled", nil, 0},
		{"60MBs", be(pulltest.Paced(60e6)), 8 * 60e6},
		{"20MBs", be(pulltest.Paced(20e6)), 8 * 20e6},
		{"20MBs-one-at-1percent", be(pulltest.Paced(20e6), pulltest.OnConnection(3, pulltest.Paced(200e3))), 8 * 20e6},
		{"20to60MBs-jitter", be(pulltest.Jittery(1, 20e6, 60e6)), 0},
	} {
		b.Run(bench.name, func(b *testing.B) {
			server := pulltest.New(b, pulltest.Repeated(block, size), bench.behaviours...)
			b.SetBytes(size)
			for range b.N {
				result := benchOnce(b, Request{URL: server.URL, Format: FormatOpaque})
				if bench.network > 0 {
					b.ReportMetric(size/bench.network/result.Duration.Seconds(), "T*/T")
				}
				b.ReportMetric(float64(result.Connections), "connections")
				b.ReportMetric(float64(result.TransferredBytes)/size, "objects")
				b.ReportMetric(float64(result.Retries), "retries")
			}
		})
	}
}

func benchOnce(b *testing.B, r Request) Result {
	b.Helper()
	s, err := Open(b.Context(), b.TempDir(), OpenOptions{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	result, err := s.Pull(b.Context(), r, nil)
	if err != nil {
		b.Fatal(err)
	}
	return result
}
