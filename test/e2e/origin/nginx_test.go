package origin

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestSent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := "/a\t206\t100\tcloudimage-node-agent/v1 (node1)\n" +
		"/a\t206\t20\tcloudimage-node-agent/v1 (node1)\n" +
		"/a\t206\t7\tcloudimage-node-agent/v2 (node2)\n" +
		"/b\t200\t1000\tcloudimage-node-agent/v1 (node1)\n" +
		"/a\t200\t5\tcurl/8.0\n"
	if err := os.WriteFile(filepath.Join(dir, "access.log"), []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, path string
		want       map[string]int64
	}{
		{"several requests and clients", "/a", map[string]int64{"node1": 120, "node2": 7, "curl/8.0": 5}},
		{"another file", "/b", map[string]int64{"node1": 1000}},
		{"never asked for", "/c", map[string]int64{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := (&Server{dir: dir}).Sent(tt.path)
			if err != nil || !maps.Equal(got, tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}
