package hollow

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestBodiesThatAreRead(t *testing.T) {
	t.Parallel()
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer server.Close()
	traffic := &Traffic{}
	client := http.Client{Transport: traffic.wrap(http.DefaultTransport)}
	for _, status = range []int{http.StatusOK, http.StatusTooManyRequests, http.StatusConflict} {
		response, err := client.Post(server.URL, "application/json", strings.NewReader("1234567890"))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	if got := traffic.Bytes().Bodies; got != 20 {
		t.Errorf("%d bytes of bodies, want 20", got)
	}
}
