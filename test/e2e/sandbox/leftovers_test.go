package sandbox

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLeftovers plants one of each kind that needs no root.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	before, err := look()
	if err != nil {
		t.Fatal(err)
	}
	box := &Sandbox{Dir: filepath.Join(t.TempDir(), "cloudimage-e2e-planted"), Cgroup: "/cloudimage-e2e-planted", before: before}
	if found, err := box.Leftovers(); err != nil || len(found) > 0 {
		t.Fatalf("nothing was planted, but %q was found (%v)", found, err)
	}
	if err := os.Mkdir(box.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	process := exec.CommandContext(t.Context(), "sleep", "600")
	process.Env = []string{"TMPDIR=" + box.Dir}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait() // it was killed, so an error is what must come
	})
	box.before.interfaces = slices.DeleteFunc(box.before.interfaces, func(name string) bool { return name == "lo" })
	found, err := box.Leftovers()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"process ", "network interface lo", "folder " + box.Dir} {
		if !slices.ContainsFunc(found, func(one string) bool { return strings.HasPrefix(one, kind) }) {
			t.Errorf("%q is not among %q", kind, found)
		}
	}
}
