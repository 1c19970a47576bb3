package system

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// upgradeStores has an agent of each version write a store: a blob, its link, and a pull that is killed in the middle. The agent of
// the other version opens the store, keeps what is there and goes on with the pull. An upgrade is taken back in the same way.
func upgradeStores(t *testing.T, before harness.Release) {
	t.Helper()
	w := newWorldOf(t, "upgrade-stores", before)
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	u := upgrade{group: w.newGroup(t, "stores", 2)}
	upgraded, downgraded := u.nodes[0], u.nodes[1]
	if err := downgraded.Replace(suite.binaries.NodeAgent); err != nil {
		t.Fatal(err)
	}
	u.waitAgent(t, downgraded)

	whole := u.warm(t, "whole")
	u.keep(t, "whole")
	part := u.serve(t, 64*mib, 99, origin.File{BytesPerSecond: 3 * mib})
	u.apply(t, "part", part, func(spec *v1alpha1.CloudImageSpec) { spec.Download.Connections = 4 })
	for _, node := range u.nodes {
		eventually(t, "a journal on "+node.Name, func(context.Context) error { return inMidPull(node, part) })
		if err := node.Kill(); err != nil {
			t.Fatal(err)
		}
		if sent := sentTo(node, part); sent >= part.size {
			t.Fatalf("%s was sent %d bytes of %d before the kill, which therefore came too late", node.Name, sent, part.size)
		}
	}
	suite.origin.Serve(part.urlPath, origin.File{Path: part.Path}) // what is left need not be slow
	for node, program := range map[*harness.Node]string{upgraded: suite.binaries.NodeAgent, downgraded: before.Binaries.NodeAgent} {
		if err := node.Replace(program); err != nil {
			t.Fatal(err)
		}
		u.waitAgent(t, node)
	}
	eventually(t, "the rest of part", func(ctx context.Context) error { return u.ready(ctx, "part", int32(len(u.nodes)), part.digest) })
	u.requireKept(t, "each store with the agent of the other version")
	for _, node := range u.nodes {
		u.requireGoneOnWith(t, node, whole, part)
	}
}

// inMidPull is nil once the journal of an unfinished pull vouches for something, and more than it vouches for is on disk.
func inMidPull(node *harness.Node, f *file) error {
	journal, err := os.ReadFile(filepath.Join(node.Store, "partial", strings.TrimPrefix(f.digest, "sha256:"), "journal"))
	if err != nil {
		return err
	}
	if sent := sentTo(node, f); sent < 40*mib || !bytes.Contains(journal, []byte("cloudimage-journal 1\n")) {
		return fmt.Errorf("%d bytes were sent, and the journal has %d", sent, len(journal))
	}
	return nil
}

// sentTo is how many bytes of a file a node was sent.
func sentTo(node *harness.Node, f *file) (sum int64) {
	for _, request := range suite.origin.Requests(f.urlPath) {
		if request.Node == node.Name {
			sum += request.BytesSent
		}
	}
	return sum
}

// requireGoneOnWith checks that a node holds both files, the first by the same link, and did not fetch the second from its beginning.
func (u *upgrade) requireGoneOnWith(t *testing.T, node *harness.Node, whole, part *file) {
	t.Helper()
	want := []string{whole.digest, part.digest}
	slices.Sort(want)
	if got := blobs(t, node); !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", node.Name, got, want)
	}
	for name, f := range map[string]*file{"whole": whole, "part": part} {
		link := filepath.Join(node.Store, "images", name)
		if got, err := filepath.EvalSymlinks(link); err != nil || got != blobPath(node.Store, f.digest) {
			t.Errorf("%s leads to %s (%v)", link, got, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(node.Store, "partial")); err != nil || len(left) > 0 {
		t.Errorf("%s has unfinished pulls: %v (%v)", node.Name, left, err)
	}
	for _, image := range u.cache(t, node.Name).Status.Images {
		if image.Name == "part" && image.ResumedBytes < 16*mib {
			t.Errorf("%s fetched what it had again: %+v", node.Name, image)
		}
	}
}
