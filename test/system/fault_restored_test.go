package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

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
