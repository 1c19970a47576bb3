package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// releaseBefore is the commit of the release that this version is upgraded from. The next release puts its own here.
const releaseBefore = "8ad120b"

// TestUpgrade runs the programs of the release before beside those of this version.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	options := harness.BuildOptions{Dir: filepath.Join(suite.dir, "release-before"), Race: raceEnabled, Output: t.Output()}
	before, err := harness.BuildRelease(t.Context(), releaseBefore, options)
	if errors.Is(err, harness.ErrNoCommit) {
		t.Skipf("nothing to upgrade from: %v; fetch the history: git fetch --unshallow", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Run("step by step", func(t *testing.T) {
		t.Parallel()
		upgradeStepByStep(t, before)
	})
	t.Run("agents first", func(t *testing.T) {
		t.Parallel()
		mixed := before
		mixed.Binaries.NodeAgent = suite.binaries.NodeAgent
		w := newWorldOf(t, "upgrade-agents", mixed)
		if err := w.startManager(t.Context()); err != nil {
			t.Fatal(err)
		}
		u := upgrade{group: w.newGroup(t, "agents-first", 1)}
		u.remove(t, "first", u.warm(t, "first"))
	})
	t.Run("stores", func(t *testing.T) {
		t.Parallel()
		upgradeStores(t, before)
	})
}

// upgradeStepByStep upgrades in the order that Helm does: the API and the rights, the manager, the agents. After each step images
// that were there are what they were, and a new one is warmed.
func upgradeStepByStep(t *testing.T, before harness.Release) {
	t.Helper()
	w := newWorldOf(t, "upgrade", before)
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	u := upgrade{group: w.newGroup(t, "upgraded", 2)}
	first := u.warm(t, "before")
	u.apply(t, "wrong", u.serve(t, mib, 99, origin.File{}), func(spec *v1alpha1.CloudImageSpec) { spec.Digest = "sha256:" + strings.Repeat("0", 64) })
	w.waitCondition(t, "wrong", v1alpha1.ConditionStalled)
	u.keep(t, "before", "wrong")

	u.installAPI(t)
	u.warm(t, "new-api")
	u.requireKept(t, "the manager and the agents of the release before, with this API")
	u.requireNoAlarm(t)

	if err := w.cluster.Manager().Replace(suite.binaries.Manager); err != nil {
		t.Fatal(err)
	}
	u.warm(t, "new-manager")
	u.requireKept(t, "this manager, with the agents of the release before")
	u.requireNoAlarm(t)

	for _, node := range u.nodes {
		if err := node.Replace(suite.binaries.NodeAgent); err != nil {
			t.Fatal(err)
		}
		u.waitAgent(t, node)
	}
	u.warm(t, "new-agents")
	u.requireKept(t, "this manager and these agents")
	u.remove(t, "before", first)
}

// installAPI installs the API and the policy of this version, and waits until the API server holds agents to both.
func (u *upgrade) installAPI(t *testing.T) {
	t.Helper()
	for _, folder := range []string{"crd", "rbac"} {
		if _, err := u.cluster.Kubectl(t.Context(), nil, "apply", "--server-side", "-k", "../../config/"+folder); err != nil {
			t.Fatal(err)
		}
	}
	agent, path := configOf(t, kubeconfigOf(u.nodes[0])), nodesAPI+"/"+u.nodes[0].Name+"/status"
	for _, forged := range []struct {
		query string
		sign  int
		want  int
	}{{"", -1, http.StatusUnprocessableEntity}, {"?fieldManager=forged", 1, http.StatusForbidden}} {
		tries := 0 // what is stored already is not refused
		eventually(t, fmt.Sprintf("the answer %d", forged.want), func(context.Context) error {
			tries++
			body := fmt.Sprintf(`{"status":{"storage":{"capacityBytes":%d}}}`, forged.sign*tries)
			if got, message := request(t, agent, attempt{method: http.MethodPatch, path: path + forged.query, body: body}); got != forged.want {
				return fmt.Errorf("%d %s", got, message)
			}
			return nil
		})
	}
}

// upgrade is a group of nodes, and what must not change on them.
type upgrade struct {
	*group

	images   map[string]v1alpha1.CloudImageStatus
	orders   map[string]v1alpha1.AssignedImage // by node and image
	requests int
	inodes   map[string]uint64
	seed     uint64
}

// warm applies an image and waits until every node holds it.
func (u *upgrade) warm(t *testing.T, name string) *file {
	t.Helper()
	u.seed++
	f := u.serve(t, mib, u.seed, origin.File{})
	u.apply(t, name, f, nil)
	eventually(t, "image "+name, func(ctx context.Context) error { return u.ready(ctx, name, int32(len(u.nodes)), f.digest) })
	return f
}

// remove deletes an image and waits until its finalizer has ended and its bytes are gone.
func (u *upgrade) remove(t *testing.T, name string, f *file) {
	t.Helper()
	image := &v1alpha1.CloudImage{}
	image.Name = name
	if err := u.client.Delete(t.Context(), image); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of "+name, func(ctx context.Context) error {
		if err := u.client.Get(ctx, client.ObjectKey{Name: name}, image); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is still there (%w): %+v", err, image.Status.Conditions)
		}
		for _, node := range u.nodes {
			if _, err := os.Stat(blobPath(node.Store, f.digest)); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%s holds its bytes (%w)", node.Name, err)
			}
		}
		return nil
	})
}

// keep notes what images and their orders are now.
func (u *upgrade) keep(t *testing.T, names ...string) {
	t.Helper()
	u.inodes = u.group.inodes(t)
	u.images, u.orders, u.requests = u.look(t, names)
}

func (u *upgrade) look(t *testing.T, names []string) (map[string]v1alpha1.CloudImageStatus, map[string]v1alpha1.AssignedImage, int) {
	t.Helper()
	images, orders, requests := map[string]v1alpha1.CloudImageStatus{}, map[string]v1alpha1.AssignedImage{}, 0
	for _, name := range names {
		image := &v1alpha1.CloudImage{}
		if err := u.client.Get(t.Context(), client.ObjectKey{Name: name}, image); err != nil {
			t.Fatal(err)
		}
		images[name] = image.Status
		requests += len(suite.origin.Requests(strings.TrimPrefix(image.Spec.Source.HTTP.URL, suite.origin.URL)))
		for _, node := range u.nodes {
			for _, order := range u.cache(t, node.Name).Spec.Images {
				if order.Name == name {
					orders[node.Name+" "+name] = order
				}
			}
		}
	}
	return images, orders, requests
}

// requireKept checks that the images that were kept are in the same state and revision, under the same orders, and were not fetched again.
func (u *upgrade) requireKept(t *testing.T, step string) {
	t.Helper()
	var names []string
	for name := range u.images {
		names = append(names, name)
	}
	images, orders, requests := u.look(t, names)
	for name, before := range u.images {
		after := images[name]
		if before.Revision != after.Revision || before.Nodes != after.Nodes || !before.LastWarmedTime.Equal(after.LastWarmedTime) ||
			!meta.IsStatusConditionPresentAndEqual(after.Conditions, v1alpha1.ConditionReady, before.Conditions[0].Status) {
			t.Errorf("%s: the status of %s was\n%+v and is\n%+v", step, name, before, after)
		}
	}
	if diff := cmp.Diff(u.orders, orders); diff != "" {
		t.Errorf("%s: other orders: %s", step, diff)
	}
	if requests != u.requests {
		t.Errorf("%s: the origin was asked %d times more", step, requests-u.requests)
	}
	u.requireSameFiles(t, u.inodes)
	for _, node := range u.nodes {
		if err := node.Probe(t.Context()); err != nil {
			t.Errorf("%s: %s: %v", step, node.Name, err)
		}
	}
}

// requireNoAlarm checks that no manager so far took the admission policy for weakened.
func (u *upgrade) requireNoAlarm(t *testing.T) {
	t.Helper()
	log, err := os.ReadFile(u.cluster.Manager().LogPath)
	if err != nil {
		t.Fatal(err)
	}
	if _, alarm, found := bytes.Cut(log, []byte("agents are not confined")); found {
		t.Errorf("a manager warns: %.500s", alarm)
	}
}
