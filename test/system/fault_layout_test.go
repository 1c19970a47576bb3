package system

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestFault23JournalOfAnotherVersion fetches again what it cannot read.
func TestFault23JournalOfAnotherVersion(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "journal", 1)
	g.observe(t)
	node := g.nodes[0]
	f := g.serve(t, 64*mib, 1, origin.File{BytesPerSecond: 3 * mib})
	g.apply(t, "journal", f, func(spec *v1alpha1.CloudImageSpec) { spec.Download.Connections = 4 })
	eventually(t, "a pull that is under way", func(context.Context) error { return atLeast(f, 40*mib) })
	if err := node.Stop(); err != nil {
		t.Fatal(err)
	}
	journals, err := filepath.Glob(filepath.Join(node.Store, "partial", "*", "journal"))
	if err != nil || len(journals) != 1 {
		t.Fatalf("journals %q (%v), want one", journals, err)
	}
	rewrite(t, journals[0], "cloudimage-journal 1\n", "cloudimage-journal 9\n")
	suite.origin.Serve(f.urlPath, origin.File{Path: f.Path})
	sent := suite.origin.BytesSent(f.urlPath)
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	waitCondition(t, "journal", v1alpha1.ConditionReady)
	if images := g.cache(t, node.Name).Status.Images; len(images) != 1 || images[0].ResumedBytes != 0 {
		t.Errorf("the pull went on from a journal that it cannot read: %+v", images)
	}
	if again := suite.origin.BytesSent(f.urlPath) - sent; again < f.size {
		t.Errorf("%d bytes were downloaded again, want all %d", again, f.size)
	}
	g.requireOnly(t, f.digest)
}

// TestFault23StoreOfAnotherVersion leaves a store alone whose layout it does not know, and says what to do.
func TestFault23StoreOfAnotherVersion(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "layout", 1)
	node := g.nodes[0]
	f := g.serve(t, 2*mib, 1, origin.File{})
	g.apply(t, "layout", f, nil)
	waitCondition(t, "layout", v1alpha1.ConditionReady)
	before, sent := g.inodes(t), suite.origin.BytesSent(f.urlPath)
	if err := node.Stop(); err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(node.Store, "STORE")
	rewrite(t, marker, "cloudimage-store 1\n", "cloudimage-store 2\n")
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent's refusal", func(context.Context) error {
		if log := process.Tail(node.LogPath, 50); !strings.Contains(log, "use the version that made the store") {
			return errors.New("its log says nothing")
		}
		return nil
	})
	if err := node.Probe(t.Context()); err == nil {
		t.Error("the agent is ready on a store that it cannot read")
	}
	g.requireSameFiles(t, before)
	rewrite(t, marker, "cloudimage-store 2\n", "cloudimage-store 1\n")
	eventually(t, "the version that made the store", func(ctx context.Context) error {
		return errors.Join(node.Probe(ctx), g.ready(ctx, "layout", 1, f.digest))
	})
	g.requireSameFiles(t, before)
	if now := suite.origin.BytesSent(f.urlPath); now != sent {
		t.Errorf("%d bytes were downloaded that lay on the disk", now-sent)
	}
}

// rewrite replaces text in a file that may be read-only.
func rewrite(t *testing.T, path, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.ReplaceAll(text, []byte(old), []byte(replacement))
	if bytes.Equal(changed, text) {
		t.Fatalf("%s does not say %q", path, old)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, changed, 0o600); err != nil {
		t.Fatal(err)
	}
}
