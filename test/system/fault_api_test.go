package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestFault08APIServerAway takes the API server away in the middle of a pull, until the pull has ended and the manager has lost
// its lease.
func TestFault08APIServerAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "away")
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := w.newGroup(t, "away", 1)
	g.observe(t)
	node := g.nodes[0]
	f := g.serve(t, 64*mib, 1, origin.File{BytesPerSecond: 2 * mib})
	g.apply(t, "away", f, func(spec *v1alpha1.CloudImageSpec) { spec.Download.Connections = 4 })
	eventually(t, "a pull that is under way", func(context.Context) error { return atLeast(f, 8*mib) })
	if err := w.plane.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if sent := suite.origin.BytesSent(f.urlPath); sent >= f.size {
		t.Fatalf("%d bytes of %d were sent before the outage, which therefore came too late", sent, f.size)
	}
	eventually(t, "the pull ends without an API server", func(context.Context) error {
		_, err := os.Stat(filepath.Join(node.Store, "images", "away"))
		return err
	})
	g.requireOnly(t, f.digest)
	manager := w.cluster.Manager()
	eventually(t, "the manager gives up its lease", func(context.Context) error {
		if manager.Starts() < 2 {
			return errors.New("it still runs")
		}
		return nil
	})
	if err := node.Probe(t.Context()); err != nil || node.Starts() != 1 {
		t.Errorf("the agent was started %d times and says %v, want it ready: its store is usable", node.Starts(), err)
	}

	sent := suite.origin.BytesSent(f.urlPath)
	if err := w.plane.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventuallyWithin(t, 3*patience, "the image, once the API server is back", func(ctx context.Context) error {
		return g.ready(ctx, "away", 1, f.digest)
	})
	const caches = `resource="nodeimagecaches"`
	eventually(t, "the watches of manager, agent and this test", func(context.Context) error {
		if watches := w.metric(t, "apiserver_longrunning_requests", caches, `verb="WATCH"`); watches < 3 {
			return fmt.Errorf("there are %d", watches)
		}
		return nil
	})
	for quiet := time.Now().Add(2 * time.Second); time.Now().Before(quiet); time.Sleep(100 * time.Millisecond) {
		if reports := w.answered(t, caches, `subresource="status"`, `verb="PATCH"`); reports != 1 {
			t.Fatalf("the node reported %d times after the outage, want once", reports)
		}
	}
	if again := suite.origin.BytesSent(f.urlPath) - sent; again > 0 {
		t.Errorf("%d bytes were downloaded after the pull had ended", again)
	}
}

// answered counts the answers of the API server since it was started, by labels of its metric.
func (w *world) answered(t *testing.T, labels ...string) int {
	t.Helper()
	return w.metric(t, "apiserver_request_total", labels...)
}

// metric sums up the series of the API server's metric that have all the labels.
func (w *world) metric(t *testing.T, metric string, labels ...string) (sum int) {
	t.Helper()
	text, err := w.cluster.Client.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		name, of, _ := strings.Cut(series, "{")
		if name != metric || slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(of, l) }) {
			continue
		}
		count, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += int(count)
	}
	return sum
}

// TestFault09EtcdRestored restores a backup that knows neither of the second image nor of the second node.
func TestFault09EtcdRestored(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "restored")
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := w.newGroup(t, "restored", 1)
	old, young := g.serve(t, 4*mib, 1, origin.File{}), g.serve(t, 4*mib, 2, origin.File{})
	g.apply(t, "restored-old", old, nil)
	w.waitCondition(t, "restored-old", v1alpha1.ConditionReady)
	backup, err := w.plane.BackUpEtcd()
	if err != nil {
		t.Fatal(err)
	}
	g.waitAgent(t, g.add(t, "restored-2"))
	g.observe(t)
	g.apply(t, "restored-young", young, nil)
	eventually(t, "both images on both nodes", func(ctx context.Context) error {
		return errors.Join(g.ready(ctx, "restored-old", 2, old.digest), g.ready(ctx, "restored-young", 2, young.digest))
	})
	before, sent := g.inodes(t), suite.origin.BytesSent(old.urlPath)+suite.origin.BytesSent(young.urlPath)

	if err := w.plane.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := w.plane.RestoreEtcd(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	if err := w.plane.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The second node registers itself again, as its kubelet does, and gets a new agent's Pod.
	if err := w.cluster.DeleteNode(t.Context(), g.nodes[1].Name); err != nil {
		t.Fatal(err)
	}
	again, err := w.cluster.AddNode(t.Context(), g.nodes[1].Name, map[string]string{groupLabel: g.name})
	if err != nil {
		t.Fatal(err)
	}
	g.nodes[1] = again
	eventually(t, "the old image on both nodes", func(ctx context.Context) error {
		return g.ready(ctx, "restored-old", 2, old.digest)
	})
	eventually(t, "both agents see that the young image is not listed", func(context.Context) error {
		for _, node := range g.nodes {
			if _, err := os.Lstat(filepath.Join(node.Store, "images", "restored-young")); err == nil {
				return fmt.Errorf("node %s still has its name", node.Name)
			}
		}
		return nil
	})
	g.requireSameFiles(t, before)
	// Whoever applied the young image does so again.
	g.apply(t, "restored-young", young, nil)
	eventually(t, "the young image on both nodes", func(ctx context.Context) error {
		return g.ready(ctx, "restored-young", 2, young.digest)
	})
	g.requireSameFiles(t, before)
	if now := suite.origin.BytesSent(old.urlPath) + suite.origin.BytesSent(young.urlPath); now != sent {
		t.Errorf("%d bytes were downloaded that lay on the disks", now-sent)
	}
}

// TestFault09ListEmptied takes the orders and the object of a node away by hand.
func TestFault09ListEmptied(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "emptied", 1)
	g.observe(t)
	f := g.serve(t, 4*mib, 1, origin.File{})
	g.apply(t, "emptied", f, nil)
	waitCondition(t, "emptied", v1alpha1.ConditionReady)
	before, sent := g.inodes(t), suite.origin.BytesSent(f.urlPath)
	name := g.nodes[0].Name
	generation := g.cache(t, name).Generation

	empty := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"images":[]}}`))
	if err := suite.client.Patch(t.Context(), cacheNamed(name), empty); err != nil {
		t.Fatal(err)
	}
	g.waitRepaired(t, "emptied", f, func(cache *v1alpha1.NodeImageCache) bool { return cache.Generation >= generation+2 })
	g.requireSameFiles(t, before)

	uid := g.cache(t, name).UID
	if err := suite.client.Delete(t.Context(), cacheNamed(name)); err != nil {
		t.Fatal(err)
	}
	g.waitRepaired(t, "emptied", f, func(cache *v1alpha1.NodeImageCache) bool { return cache.UID != uid })
	g.requireSameFiles(t, before)
	if now := suite.origin.BytesSent(f.urlPath); now != sent {
		t.Errorf("%d bytes were downloaded that lay on the disk", now-sent)
	}
}

// waitRepaired waits until the object of the first node is as the manager and the agent want it.
func (g *group) waitRepaired(t *testing.T, image string, f *file, changed func(*v1alpha1.NodeImageCache) bool) {
	t.Helper()
	eventually(t, "the orders and the report are back", func(ctx context.Context) error {
		cache := cacheNamed(g.nodes[0].Name)
		if err := g.client.Get(ctx, client.ObjectKeyFromObject(cache), cache); err != nil {
			return err
		}
		if !changed(cache) || len(cache.Spec.Images) != 1 || len(cache.Status.Images) != 1 ||
			cache.Status.Images[0].State != v1alpha1.StateReady {
			return fmt.Errorf("orders %+v, report %+v", cache.Spec.Images, cache.Status.Images)
		}
		return g.ready(ctx, image, 1, f.digest)
	})
	link, err := os.Readlink(filepath.Join(g.nodes[0].Store, "images", image))
	if err != nil || filepath.Base(link) != strings.TrimPrefix(f.digest, "sha256:") {
		t.Errorf("the image's name leads to %q (%v), want %s", link, err, f.digest)
	}
}

// inodes are the files of all blobs: one that was deleted and fetched again is another file.
func (g *group) inodes(t *testing.T) map[string]uint64 {
	t.Helper()
	files := map[string]uint64{}
	for _, node := range g.nodes {
		for _, digest := range blobs(t, node) {
			info, err := os.Stat(blobPath(node.Store, digest))
			if err != nil {
				t.Fatal(err)
			}
			stat, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				t.Fatal("this system does not tell inodes")
			}
			files[node.Name+" "+digest] = stat.Ino
		}
	}
	return files
}

func (g *group) requireSameFiles(t *testing.T, before map[string]uint64) {
	t.Helper()
	now := g.inodes(t)
	for blob, inode := range before {
		if now[blob] != inode {
			t.Errorf("blob %s was inode %d and is %d (0: deleted)", blob, inode, now[blob])
		}
	}
}

// TestFault29WatchExpired changes images and nodes behind the back of everybody who watches, and lets all their versions expire.
func TestFault29WatchExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "expired")
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := w.newGroup(t, "expired", 2)
	g.observe(t)
	first, second := g.serve(t, 2*mib, 1, origin.File{}), g.serve(t, 2*mib, 2, origin.File{})
	g.apply(t, "expired-deleted", first, nil)
	g.apply(t, "expired-changed", first, nil)
	for _, name := range []string{"expired-deleted", "expired-changed"} {
		w.waitCondition(t, name, v1alpha1.ConditionReady)
	}
	if err := w.plane.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	config, stop, err := w.plane.OtherAPIServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unseen, err := client.NewWithWatch(config, client.Options{Scheme: w.client.Scheme()})
	if err == nil {
		behind := &group{world: &world{client: unseen}, name: g.name}
		behind.change(t, "expired-changed", second)
		image := &v1alpha1.CloudImage{}
		image.Name = "expired-deleted"
		err = unseen.Delete(t.Context(), image)
	}
	if err := errors.Join(err, stop(), w.plane.ExpireRevisions(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := w.plane.StartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventuallyWithin(t, 3*patience, "what was changed and deleted behind everybody's back", func(ctx context.Context) error {
		image := &v1alpha1.CloudImage{}
		err := w.client.Get(ctx, client.ObjectKey{Name: "expired-deleted"}, image)
		if client.IgnoreNotFound(err) != nil || err == nil {
			return fmt.Errorf("the deleted image is still there: %w", err)
		}
		return g.ready(ctx, "expired-changed", 2, second.digest)
	})
	for _, node := range g.nodes {
		if got := blobs(t, node); !slices.Contains(got, second.digest) {
			t.Errorf("node %s holds %q, want %s", node.Name, got, second.digest)
		}
	}
}

// TestFault29ConflictsAndThrottling rolls out while somebody else keeps writing the same objects, and then while the API server
// turns most requests away.
func TestFault29ConflictsAndThrottling(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "crowded")
	if err := w.startManager(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := w.newGroup(t, "crowded", 3)
	g.observe(t)
	f := g.serve(t, 2*mib, 1, origin.File{})
	storm := inBackground(t, 1, func(ctx context.Context, i int) { w.touchEverything(ctx, i) })
	g.apply(t, "crowded-conflicts", f, limit(1))
	eventually(t, "the image, while others write", func(ctx context.Context) error {
		return g.ready(ctx, "crowded-conflicts", 3, f.digest)
	})
	storm()
	if conflicts := w.answered(t, `code="409"`, `group="prefetch.cloudimage.dev"`); conflicts == 0 {
		t.Error("there was no conflict: the test has tested nothing")
	}
	if most := suite.origin.MaxConcurrentNodes(f.urlPath); most > 1 {
		t.Errorf("%d nodes pulled at once, the limit is 1", most)
	}

	if err := w.plane.KillAPIServer(); err != nil {
		t.Fatal(err)
	}
	err := w.plane.StartAPIServer(t.Context(),
		"--enable-priority-and-fairness=false", "--max-requests-inflight=1", "--max-mutating-requests-inflight=1")
	if err != nil {
		t.Fatal(err)
	}
	greedy := clientOf(t, kubeconfigOf(g.nodes[0])) // administrators are never turned away
	crowd := inBackground(t, 8, func(ctx context.Context, _ int) {
		_ = greedy.List(ctx, &v1alpha1.NodeImageCacheList{}) // most are refused; that is the point
	})
	second := g.serve(t, 2*mib, 2, origin.File{})
	g.apply(t, "crowded-throttled", second, limit(1))
	eventuallyWithin(t, 3*patience, "the image, while most requests are turned away", func(ctx context.Context) error {
		return g.ready(ctx, "crowded-throttled", 3, second.digest)
	})
	crowd()
	if refused := w.answered(t, `code="429"`); refused == 0 {
		t.Error("no request was turned away: the test has tested nothing")
	}
	if most := suite.origin.MaxConcurrentNodes(second.urlPath); most > 1 {
		t.Errorf("%d nodes pulled at once, the limit is 1", most)
	}
}

// touchEverything writes an annotation to every image and to the object of every node.
func (w *world) touchEverything(ctx context.Context, round int) {
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"test.cloudimage.dev/round":"%d"}}}`, round))
	var images v1alpha1.CloudImageList
	var caches v1alpha1.NodeImageCacheList
	// Errors are of objects that have gone, or of the end of the test.
	_, _ = w.client.List(ctx, &images), w.client.List(ctx, &caches)
	for i := range images.Items {
		_ = w.client.Patch(ctx, &images.Items[i], patch)
	}
	for i := range caches.Items {
		_ = w.client.Patch(ctx, &caches.Items[i], patch)
	}
}

func kubeconfigOf(node *harness.Node) string {
	return filepath.Join(filepath.Dir(node.Store), "kubeconfig")
}
