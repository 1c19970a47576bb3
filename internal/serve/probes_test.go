package serve

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/cloudimage-dev/cloudimage-operator/test/flood"
)

func TestProbes(t *testing.T) {
	t.Parallel()
	ready := errors.New("no store")
	r, err := run(t,
		func(mgr manager.Manager) error {
			return Probes{Address: "127.0.0.1:0", Ready: func(*http.Request) error { return ready }}.AddTo(mgr)
		},
		Probes{Address: "0"}.AddTo, Probes{}.AddTo,
	)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"/healthz": 200, "/healthz/": 200, "/healthz/ping": 200, "/readyz": 500, "/readyz/": 500, "/metrics": 404, "/": 404} {
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + r.addresses["probes"] + path)
		if err != nil {
			t.Fatal(err)
		}
		content, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != want || strings.Contains(string(content), "store") {
			t.Errorf("%s: status %d, want %d, and no reason; %s", path, response.StatusCode, want, content)
		}
	}
	if err := (Probes{Address: "192.0.2.1:1"}).AddTo(r); err == nil {
		t.Error("it listens on an address that this machine does not have")
	}
}

// TestFloodOfTheProbes: the kubelet comes from an address of its own, and is answered.
func TestFloodOfTheProbes(t *testing.T) {
	t.Parallel()
	r, err := run(t, Probes{Address: "127.0.0.1:0"}.AddTo)
	if err != nil {
		t.Fatal(err)
	}
	attack, err := flood.Start(t.Context(), flood.Options{
		Address: r.addresses["probes"], Peers: attackers, Connections: 200, Bytes: 64 << 10, Head: "GET /readyz HTTP/1.1\r\nHost: a\r\nX: ",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer attack.Stop()
	eventually(t, "the flood", func() bool { return attack.Opened.Load() > 400 })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for range 20 {
		response, err := client.Get("http://" + r.addresses["probes"] + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Errorf("status %d", response.StatusCode)
		}
	}
}
