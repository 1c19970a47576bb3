package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

func TestFault13DeletedInMidPull(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "cancelled", 2)
	g.observe(t)
	f := g.serve(t, 64*mib, 1, origin.File{BytesPerSecond: mib})
	g.apply(t, "cancelled", f, nil)
	eventually(t, "a pull that is under way", func(context.Context) error { return atLeast(f, 20*mib) })
	remove(t, "cancelled")
	if sent := suite.origin.BytesSent(f.urlPath); sent >= 2*f.size {
		t.Fatalf("all of %d bytes were sent before the deletion, which therefore came too late", sent)
	}
	eventually(t, "the end of all downloads", func(context.Context) error {
		for _, request := range suite.origin.Requests(f.urlPath) {
			if request.End.IsZero() {
				return fmt.Errorf("%+v still goes on", request)
			}
		}
		return nil
	})
	g.requireOnly(t)
	g.requireNothingUnfinished(t)
}

func TestFault14ChangedInMidPull(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "changed", 2)
	seen := g.observe(t)
	first := g.serve(t, 64*mib, 1, origin.File{BytesPerSecond: mib})
	second := g.serve(t, 8*mib, 2, origin.File{})
	g.apply(t, "changed", first, nil)
	eventually(t, "a pull that is under way", func(context.Context) error { return atLeast(first, 20*mib) })
	generation := g.change(t, "changed", second).Generation
	eventually(t, "the new image on both nodes", func(ctx context.Context) error {
		return g.ready(ctx, "changed", 2, second.digest)
	})
	if sent := suite.origin.BytesSent(first.urlPath); sent >= 2*first.size {
		t.Errorf("all of %d bytes of the old image were sent", sent)
	}
	g.requireOnly(t, second.digest)
	for _, image := range seen.of("changed") {
		ready := meta.IsStatusConditionTrue(image.Status.Conditions, v1alpha1.ConditionReady)
		if image.Status.Digest == first.digest && (ready || image.Status.Nodes.Ready > 0) {
			t.Errorf("the old image became ready: %+v", image.Status)
		}
		if ready && image.Status.ObservedGeneration < generation {
			t.Errorf("Ready speaks of generation %d, want %d: %+v", image.Status.ObservedGeneration, generation, image.Status)
		}
	}
}

// TestFault14OldBlobStaysUntilTheNewOneIsVerified changes the spec of an image that is warm: its name leads to whole bytes at any
// moment.
func TestFault14OldBlobStaysUntilTheNewOneIsVerified(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "flipped", 1)
	g.observe(t)
	first := g.serve(t, 8*mib, 1, origin.File{})
	second := g.serve(t, 16*mib, 2, origin.File{BytesPerSecond: mib})
	g.apply(t, "flipped", first, nil)
	waitCondition(t, "flipped", v1alpha1.ConditionReady)
	node := g.nodes[0]
	link := filepath.Join(node.Store, "images", "flipped")
	g.change(t, "flipped", second)
	eventually(t, "the name leads to the new bytes", func(context.Context) error {
		blob, err := filepath.EvalSymlinks(link)
		switch {
		case err != nil:
			t.Fatalf("the name leads nowhere: %v", err)
		case blob == blobPath(node.Store, second.digest):
			return nil
		case blob != blobPath(node.Store, first.digest):
			t.Fatalf("the name leads to %s", blob)
		}
		return fmt.Errorf("it leads to the old ones")
	})
	eventually(t, "the new image", func(ctx context.Context) error { return g.ready(ctx, "flipped", 1, second.digest) })
	digests := []string{first.digest, second.digest}
	slices.Sort(digests)
	g.requireOnly(t, digests...) // the old bytes stay until their space is needed
}

// TestFault15TwoImagesOneDigest applies both at once, and then deletes one after the other.
func TestFault15TwoImagesOneDigest(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "warm", 2)
	g.observe(t)
	f := g.serve(t, 8*mib, 1, origin.File{BytesPerSecond: mib})
	twin := &file{urlPath: "/elsewhere/image.qcow2", digest: f.digest}
	suite.origin.Serve(twin.urlPath, f.File)
	g.apply(t, "warm", f, nil)
	g.apply(t, "warm-twin", twin, nil)
	for _, name := range []string{"warm", "warm-twin"} {
		image := waitCondition(t, name, v1alpha1.ConditionReady)
		if n := image.Status.Nodes; n.Desired != 2 || n.Ready != 2 || image.Status.SizeBytes != f.size {
			t.Errorf("status %+v, want 2 of 2 nodes with %d bytes", image.Status, f.size)
		}
	}
	g.requireOnly(t, f.digest)
	for _, node := range g.nodes {
		if sent := bytesTo(node, f.urlPath) + bytesTo(node, twin.urlPath); sent >= f.size*3/2 {
			t.Errorf("%s got %d bytes of an image of %d: it downloaded it twice", node.Name, sent, f.size)
		}
	}

	late := &file{urlPath: "/elsewhere/again.qcow2", digest: f.digest}
	suite.origin.Serve(late.urlPath, f.File)
	g.apply(t, "warm-late", late, nil)
	waitCondition(t, "warm-late", v1alpha1.ConditionReady)
	if nodes := suite.origin.Nodes(late.urlPath); len(nodes) > 0 {
		t.Errorf("nodes %q asked for bytes that they had", nodes)
	}

	remove(t, "warm")
	remove(t, "warm-twin")
	g.requireOnly(t, f.digest) // one image still names it
	remove(t, "warm-late")
	g.requireOnly(t)
}

func TestFault16OneURLTwoDigests(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "disputed", 2)
	g.observe(t)
	f := g.serve(t, 8*mib, 1, origin.File{})
	wrong := *f
	wrong.digest = "sha256:" + strings.Repeat("0", 64)
	g.apply(t, "disputed-wrong", &wrong, nil)
	g.apply(t, "disputed", f, nil)
	waitCondition(t, "disputed", v1alpha1.ConditionReady)
	requireMismatch(t, waitCondition(t, "disputed-wrong", v1alpha1.ConditionStalled))
	g.requireOnly(t, f.digest)
	remove(t, "disputed-wrong")
	g.requireOnly(t, f.digest)
	if err := g.ready(t.Context(), "disputed", 2, f.digest); err != nil {
		t.Error(err)
	}
}

// TestFault17WrongDigest stops the rollout at the first node.
func TestFault17WrongDigest(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "wrong", 3)
	g.observe(t)
	f := g.serve(t, 2*mib, 1, origin.File{})
	f.digest = "sha256:" + strings.Repeat("0", 64)
	g.apply(t, "wrong", f, limit(1))
	image := waitCondition(t, "wrong", v1alpha1.ConditionStalled)
	requireMismatch(t, image)
	if image.Status.Nodes.Failed != 1 || len(image.Status.Failures) != 1 {
		t.Fatalf("status %+v, want one node that failed", image.Status)
	}
	if nodes := suite.origin.Nodes(f.urlPath); !slices.Equal(nodes, []string{image.Status.Failures[0].Node}) {
		t.Errorf("nodes %q asked for the image, want only the one that failed, %s", nodes, image.Status.Failures[0].Node)
	}
	g.requireOnly(t)
	g.requireNothingUnfinished(t)
}

func requireMismatch(t *testing.T, image *v1alpha1.CloudImage) {
	t.Helper()
	stalled := meta.FindStatusCondition(image.Status.Conditions, v1alpha1.ConditionStalled)
	if stalled == nil || stalled.Reason != v1alpha1.ReasonDigestMismatch {
		t.Errorf("image %s: conditions %+v, want Stalled with DigestMismatch", image.Name, image.Status.Conditions)
	}
}

// change lets an image name another file.
func (g *group) change(t *testing.T, name string, f *file) *v1alpha1.CloudImage {
	t.Helper()
	image := &v1alpha1.CloudImage{}
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		if err := g.client.Get(t.Context(), client.ObjectKey{Name: name}, image); err != nil {
			return err
		}
		image.Spec.Source.HTTP.URL = suite.origin.URL + f.urlPath
		image.Spec.Digest = f.digest
		return g.client.Update(t.Context(), image)
	})
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// ready tells what is missing until an image is Ready on so many nodes, with a digest.
func (w *world) ready(ctx context.Context, name string, nodes int32, digest string) error {
	image := &v1alpha1.CloudImage{}
	if err := w.client.Get(ctx, client.ObjectKey{Name: name}, image); err != nil {
		return err
	}
	s := &image.Status
	if !meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady) || s.Nodes.Ready != nodes ||
		s.Digest != digest || s.ObservedGeneration != image.Generation {
		return fmt.Errorf("status is %+v, want %d ready nodes with %s", *s, nodes, digest)
	}
	return nil
}

// requireNothingUnfinished checks that no pull left anything on the disks.
func (g *group) requireNothingUnfinished(t *testing.T) {
	t.Helper()
	for _, node := range g.nodes {
		for _, folder := range []string{"partial", "quarantine"} {
			entries, err := os.ReadDir(filepath.Join(node.Store, folder))
			if err != nil || len(entries) > 0 {
				t.Errorf("node %s holds %v in %s (%v), want nothing", node.Name, entries, folder, err)
			}
		}
	}
}

// bytesTo is what one node got of a path.
func bytesTo(node *harness.Node, urlPath string) (sum int64) {
	for _, request := range suite.origin.Requests(urlPath) {
		if request.Node == node.Name {
			sum += request.BytesSent
		}
	}
	return sum
}
