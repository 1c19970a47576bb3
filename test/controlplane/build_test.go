package controlplane

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRecipe(t *testing.T) {
	t.Parallel()
	module := filepath.Join("..", "kubernetes")
	r, err := newRecipe(t.Context(), module)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := newRecipe(t.Context(), module); err != nil || again.key() != r.key() {
		t.Errorf("key %s, then %s (%v): it must depend on its inputs only", r.key(), again.key(), err)
	}
	if !strings.HasPrefix(r.key(), "v1.") {
		t.Errorf("key %s does not begin with the version", r.key())
	}
	changed := t.TempDir()
	for name, add := range map[string]string{"go.mod": "", "go.sum": "one more line\n"} {
		data, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(changed, name), append(data, add...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other, err := newRecipe(t.Context(), changed)
	if err != nil {
		t.Fatal(err)
	}
	if other.key() == r.key() {
		t.Errorf("key %s is the same for another go.sum", r.key())
	}
}

func TestAssetsFolderWithoutAProgram(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "etcd"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBEBUILDER_ASSETS", dir)
	_, err := FindPrograms(t.Context(), Options{})
	if err == nil || !strings.Contains(err.Error(), "kube-apiserver") || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v does not name what is missing where", err)
	}
}

func TestLockIsExclusive(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path, t.Output()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second lock: %v, want that it waited", err)
	}
	unlock()
	unlock, err = lock(t.Context(), path, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
