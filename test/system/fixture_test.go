package system

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane/process"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin/qcow2"
)

const (
	mib = 1 << 20
	// groupLabel on a node names the test that it belongs to.
	groupLabel = "test.cloudimage.dev/group"
	// patience is how long anything may take; nothing waits for so long unless it fails.
	patience = time.Minute
)

// group is the nodes of one test.
type group struct {
	name  string
	nodes []*harness.Node
}

// newGroup adds ready nodes for this test only.
func newGroup(t *testing.T, name string, count int) *group {
	t.Helper()
	g := &group{name: name}
	for i := range count {
		g.add(t, fmt.Sprintf("%s-%d", name, i+1))
	}
	for _, node := range g.nodes {
		g.waitAgent(t, node)
	}
	return g
}

func (g *group) add(t *testing.T, name string) *harness.Node {
	t.Helper()
	node, err := suite.cluster.AddNode(t.Context(), name, map[string]string{groupLabel: g.name})
	if err != nil {
		t.Fatal(err)
	}
	g.nodes = append(g.nodes, node)
	t.Cleanup(func() {
		if err := suite.cluster.RemoveNode(context.WithoutCancel(t.Context()), name); err != nil {
			t.Error(err)
		}
	})
	return node
}

func (g *group) waitAgent(t *testing.T, node *harness.Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := node.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
}

// explain prints what a person would ask for first.
func (g *group) explain(t *testing.T) {
	t.Helper()
	out, err := suite.cluster.Kubectl(context.WithoutCancel(t.Context()), nil, "get", "cimg,nimg", "-o", "yaml", "--show-managed-fields=false")
	t.Logf("objects (%v):\n%s", err, out)
	t.Logf("manager:\n%s", process.Tail(suite.cluster.Manager().LogPath, 40))
	for _, node := range g.nodes {
		t.Logf("%s:\n%s", node.Program.Name, process.Tail(node.LogPath, 20))
	}
}

// file is something that the origin serves.
type file struct {
	origin.File
	urlPath, digest string
	size            int64
}

// serve makes an image and puts it on the origin under the test's name.
func (g *group) serve(t *testing.T, virtualSize int64, seed uint64, how origin.File) *file {
	t.Helper()
	f := &file{File: how, urlPath: fmt.Sprintf("/%s-%d.qcow2", g.name, seed)}
	f.Path = filepath.Join(t.TempDir(), "image.qcow2")
	summary, err := qcow2.WriteFile(f.Path, virtualSize, seed)
	if err != nil {
		t.Fatal(err)
	}
	f.digest, f.size = summary.Digest, summary.SizeBytes
	suite.origin.Serve(f.urlPath, f.File)
	return f
}

// apply creates an image for the nodes of the group.
func (g *group) apply(t *testing.T, name string, f *file, change func(*v1alpha1.CloudImageSpec)) {
	t.Helper()
	image := &v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{Name: name}}
	image.Spec.Source.HTTP = &v1alpha1.HTTPSource{URL: suite.origin.URL + f.urlPath}
	image.Spec.Digest = f.digest
	image.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{groupLabel: g.name}}
	if change != nil {
		change(&image.Spec)
	}
	if err := suite.client.Create(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the nodes go, so that its finalizer ends
		if t.Failed() {
			g.explain(t)
		}
		err := suite.client.Delete(context.WithoutCancel(t.Context()), image)
		if err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
}

// eventually repeats a check until it succeeds.
func eventually(t *testing.T, what string, check func(ctx context.Context) error) {
	t.Helper()
	within(t, patience, what, check)
}

// within is for what takes longer than others even when it succeeds.
func within(t *testing.T, patience time.Duration, what string, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, patience, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// waitCondition returns the image once the condition is True.
func waitCondition(t *testing.T, name, condition string) *v1alpha1.CloudImage {
	t.Helper()
	image := &v1alpha1.CloudImage{}
	eventually(t, fmt.Sprintf("image %s %s", name, condition), func(ctx context.Context) error {
		if err := suite.client.Get(ctx, client.ObjectKey{Name: name}, image); err != nil {
			return err
		}
		if !meta.IsStatusConditionTrue(image.Status.Conditions, condition) {
			return fmt.Errorf("status is %+v", image.Status)
		}
		return nil
	})
	return image
}

// requireOnly checks the stores of all nodes: every published name must be the digest of its bytes, and the names those wanted.
func (g *group) requireOnly(t *testing.T, digests ...string) {
	t.Helper()
	for _, node := range g.nodes {
		if got := blobs(t, node); !slices.Equal(got, digests) {
			t.Errorf("node %s holds %q, want %q", node.Name, got, digests)
		}
	}
}

func blobs(t *testing.T, node *harness.Node) []string {
	t.Helper()
	dir := filepath.Join(node.Store, "blobs", "sha256")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var digests []string
	for _, entry := range entries {
		if got := sum(t, filepath.Join(dir, entry.Name())); got != entry.Name() {
			t.Errorf("node %s: the blob %s holds bytes of digest %s", node.Name, entry.Name(), got)
		}
		digests = append(digests, "sha256:"+entry.Name())
	}
	return digests
}

func sum(t *testing.T, path string) string {
	t.Helper()
	content, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, content); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
