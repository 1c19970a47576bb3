package scratch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestOrphansGoAndFoldersInUseStay(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	age := func(path string) {
		t.Helper()
		old := time.Now().Add(-2 * settled)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	folder := func(name string) string {
		t.Helper()
		path := filepath.Join(temp, name)
		if err := os.MkdirAll(filepath.Join(path, "store"), 0o755); err != nil {
			t.Fatal(err)
		}
		age(path)
		return path
	}
	used, err := New("demo")
	if err != nil {
		t.Fatal(err)
	}
	age(used.Path)
	orphan, other := folder("cloudimage-demo-1"), folder("cloudimage-else-1")
	fresh := folder("cloudimage-demo-2")
	if err := os.Chtimes(fresh, time.Now(), time.Now()); err != nil {
		t.Fatal(err)
	}
	next, err := New("demo")
	if err != nil {
		t.Fatal(err)
	}
	for path, stays := range map[string]bool{used.Path: true, orphan: false, other: true, fresh: true, next.Path: true} {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) == stays {
			t.Errorf("%s: %v, want it to stay: %v", path, err, stays)
		}
	}
	for _, dir := range []*Dir{used, next, used} {
		if err := dir.Remove(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(used.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Remove: %v", err)
	}
}
