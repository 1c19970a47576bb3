package origin_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const size = 1 << 20

// content differs at every offset from its neighbours, so that a shift shows.
func content() []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 7)
	}
	return data
}

func start(t *testing.T, file origin.File) *origin.Server {
	t.Helper()
	file.Path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file.Path, content(), 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := origin.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	server.Serve("/image", file)
	return server
}

type answer struct {
	*http.Response
	body []byte
}

func get(t *testing.T, url, node, span string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User-Agent", "cloudimage-node-agent/v0 ("+node+")")
	if span != "" {
		request.Header.Set("Range", span)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return answer{response, body}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	all := content()
	const asked = "bytes=100-299"
	tests := []struct {
		name        string
		fault       origin.Fault
		span        string
		wantStatus  int
		wantRange   string
		wantBody    []byte
		wantChunked bool
	}{
		{"whole", origin.NoFault, "", 200, "", all, false},
		{"range", origin.NoFault, asked, 206, "bytes 100-299/1048576", all[100:300], false},
		{"range past the end", origin.NoFault, "bytes=2000000-", 416, "bytes */1048576", nil, false},
		{"no ranges", origin.NoRanges, asked, 200, "", all, false},
		{"shifted Content-Range", origin.ShiftedContentRange, asked, 206, "bytes 101-300/1048576", all[101:301], false},
		{"shifted bytes", origin.ShiftedBytes, asked, 206, "bytes 100-299/1048576", all[101:301], false},
		{"short and chunked", origin.ShortChunked, asked, 206, "bytes 100-299/1048576", all[100:200], true},
		{"faults spare requests without a range", origin.ShiftedBytes, "", 200, "", all, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := start(t, origin.File{Fault: test.fault})
			got := get(t, server.URL+"/image", "node-1", test.span)
			if got.StatusCode != test.wantStatus || got.Header.Get("Content-Range") != test.wantRange {
				t.Errorf("answer %d %q, want %d %q", got.StatusCode, got.Header.Get("Content-Range"), test.wantStatus, test.wantRange)
			}
			if test.wantBody != nil && !slices.Equal(got.body, test.wantBody) {
				t.Errorf("body of %d bytes (%x) is not the expected one of %d", len(got.body), sha256.Sum256(got.body), len(test.wantBody))
			}
			if chunked := got.ContentLength < 0; chunked != test.wantChunked {
				t.Errorf("chunked %t, want %t", chunked, test.wantChunked)
			}
			log := server.Requests("/image")
			if len(log) != 1 || log[0].Node != "node-1" || log[0].BytesSent != int64(len(got.body)) || log[0].Status != test.wantStatus {
				t.Errorf("access log %+v", log)
			}
		})
	}
}

func TestNotFound(t *testing.T) {
	t.Parallel()
	server := start(t, origin.File{})
	if got := get(t, server.URL+"/other", "n", ""); got.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", got.StatusCode)
	}
	if nodes := server.Nodes("/image"); len(nodes) != 0 {
		t.Errorf("nodes %q asked for the image", nodes)
	}
}

func TestPacing(t *testing.T) {
	t.Parallel()
	server := start(t, origin.File{BytesPerSecond: size})
	begin := time.Now()
	get(t, server.URL+"/image", "n", "")
	// Some of the last bytes wait in the client's buffer for nobody, and the first go out in a burst.
	if took := time.Since(begin); took < 500*time.Millisecond {
		t.Errorf("a connection of 1 MiB/s carried 1 MiB in %s", took)
	}
}

func TestConcurrentNodes(t *testing.T) {
	t.Parallel()
	server := start(t, origin.File{BytesPerSecond: 4 * size})
	// Two nodes at once with two connections each, then a third alone.
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() { get(t, server.URL+"/image", fmt.Sprint("node-", i%2), "") })
	}
	wait.Wait()
	get(t, server.URL+"/image", "node-2", "")
	if got := server.MaxConcurrentNodes("/image"); got != 2 {
		t.Errorf("%d nodes at once, want 2; log %+v", got, server.Requests(""))
	}
	if got := server.Nodes(""); len(got) != 3 {
		t.Errorf("nodes %q, want three", got)
	}
	if got := server.BytesSent("/image"); got != 5*size {
		t.Errorf("%d bytes sent, want %d", got, 5*size)
	}
}
