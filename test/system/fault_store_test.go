package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// imageOn is what a node reports of an image.
func imageOn(ctx context.Context, node *harness.Node, name string) (v1alpha1.ImageStatus, error) {
	cache := cacheNamed(node.Name)
	if err := suite.client.Get(ctx, client.ObjectKeyFromObject(cache), cache); err != nil {
		return v1alpha1.ImageStatus{}, err
	}
	for _, image := range cache.Status.Images {
		if image.Name == name {
			return image, nil
		}
	}
	return v1alpha1.ImageStatus{}, fmt.Errorf("node %s reports %+v", node.Name, cache.Status.Images)
}

// waitRestored waits until a node has the image again, linked, after it asked the origin for more than before.
func waitRestored(t *testing.T, node *harness.Node, name string, f *file, sentBefore int64) {
	t.Helper()
	eventually(t, name+" is fetched again", func(ctx context.Context) error {
		status, err := imageOn(ctx, node, name)
		if err != nil {
			return err
		}
		path := filepath.Join(node.Store, "images", name)
		link, err := os.Readlink(path)
		if _, errStat := os.Stat(path); err != nil || errStat != nil {
			return errors.Join(err, errStat)
		}
		sent := suite.origin.BytesSent(f.urlPath)
		if status.State != v1alpha1.StateReady || status.Digest != f.digest || sent <= sentBefore ||
			filepath.Base(link) != strings.TrimPrefix(f.digest, "sha256:") {
			return fmt.Errorf("status %+v, link %s, %d bytes were sent, %d before", status, link, sent, sentBefore)
		}
		return nil
	})
	if got := blobs(t, node); len(got) != 1 || got[0] != f.digest {
		t.Errorf("node %s holds %q", node.Name, got)
	}
}

// TestFault07StoreUnusable gives an agent a folder that it must not use, as a disk does that is mounted in the wrong place.
func TestFault07StoreUnusable(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "fault07", 1)
	node := g.nodes[0]
	f := g.serve(t, mib, 1, origin.File{})
	g.apply(t, "fault07", f, nil)
	waitCondition(t, "fault07", v1alpha1.ConditionReady)
	err := errors.Join(os.Rename(node.Store, node.Store+".away"), os.Mkdir(node.Store, 0o755),
		os.WriteFile(filepath.Join(node.Store, "notes.txt"), []byte("precious"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	storage := func(want metav1.ConditionStatus, say string) {
		t.Helper()
		eventually(t, "StorageReady is "+string(want), func(ctx context.Context) error {
			cache := cacheNamed(node.Name)
			if err := suite.client.Get(ctx, client.ObjectKeyFromObject(cache), cache); err != nil {
				return err
			}
			condition := meta.FindStatusCondition(cache.Status.Conditions, v1alpha1.ConditionStorageReady)
			if condition == nil || condition.Status != want || !strings.Contains(condition.Message, say) {
				return fmt.Errorf("condition %+v", condition)
			}
			return nil
		})
	}
	storage(metav1.ConditionFalse, "neither empty nor a store")
	if list, err := os.ReadDir(node.Store); err != nil || len(list) > 2 { // the notes, and the lock
		t.Errorf("the agent wrote into a folder of somebody else: %v, %v", list, err)
	}
	sent := suite.origin.BytesSent(f.urlPath)
	if err := errors.Join(os.RemoveAll(node.Store), os.Rename(node.Store+".away", node.Store)); err != nil {
		t.Fatal(err)
	}
	storage(metav1.ConditionTrue, "")
	waitCondition(t, "fault07", v1alpha1.ConditionReady)
	if now := suite.origin.BytesSent(f.urlPath); now != sent {
		t.Errorf("%d bytes were fetched, which the disk held all the time", now-sent)
	}
}

func TestFault20BitRot(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "fault20", 1)
	node := g.nodes[0]
	f := g.serve(t, 16*mib, 1, origin.File{})
	g.apply(t, "fault20", f, nil)
	waitCondition(t, "fault20", v1alpha1.ConditionReady)
	sent := suite.origin.BytesSent(f.urlPath)
	suite.origin.Serve(f.urlPath, origin.File{Path: f.Path, BytesPerSecond: f.size / 16}) // slow enough to be seen

	blob := filepath.Join(node.Store, "blobs", "sha256", strings.TrimPrefix(f.digest, "sha256:"))
	content, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := errors.Join(os.Chmod(blob, 0o644), os.WriteFile(blob, content, 0o644)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node is not ready and says why", func(ctx context.Context) error {
		status, err := imageOn(ctx, node, "fault20")
		if err == nil && (status.State == v1alpha1.StateReady || !strings.Contains(status.Message, "went bad")) {
			err = fmt.Errorf("status %+v", status)
		}
		return err
	})
	quarantined, err := os.ReadDir(filepath.Join(node.Store, "quarantine"))
	if err != nil || len(quarantined) != 1 {
		t.Errorf("quarantine %v, %v", quarantined, err)
	}
	waitRestored(t, node, "fault20", f, sent)
}

func TestFault21DiskChangedByHand(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		harm    func(node *harness.Node, f *file) error
		fetches bool
		starts  int // of the agent
	}{
		"link": {func(node *harness.Node, _ *file) error {
			return os.Remove(filepath.Join(node.Store, "images", "fault21-link"))
		}, false, 1},
		"blob": {func(node *harness.Node, f *file) error {
			return os.Remove(filepath.Join(node.Store, "blobs", "sha256", strings.TrimPrefix(f.digest, "sha256:")))
		}, true, 1},
		"wiped": {func(node *harness.Node, _ *file) error {
			list, err := os.ReadDir(node.Store)
			for _, entry := range list {
				err = errors.Join(err, os.RemoveAll(filepath.Join(node.Store, entry.Name())))
			}
			return err
		}, true, 2},
		"swapped": {func(node *harness.Node, _ *file) error {
			return errors.Join(os.Rename(node.Store, node.Store+".old"), os.Mkdir(node.Store, 0o755))
		}, true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			name := "fault21-" + name
			g := newGroup(t, name, 1)
			node := g.nodes[0]
			f := g.serve(t, 8*mib, 1, origin.File{})
			g.apply(t, name, f, nil)
			waitCondition(t, name, v1alpha1.ConditionReady)
			sent := suite.origin.BytesSent(f.urlPath)
			if err := tt.harm(node, f); err != nil {
				t.Fatal(err)
			}
			if !tt.fetches {
				sent-- // the link comes back without a byte
			}
			waitRestored(t, node, name, f, sent)
			if !tt.fetches && suite.origin.BytesSent(f.urlPath) != sent+1 {
				t.Error("a missing link made the agent fetch the bytes")
			}
			if node.Starts() != tt.starts {
				t.Errorf("the agent was started %d times, want %d", node.Starts(), tt.starts)
			}
		})
	}
}

func TestFault22CommandLineOnABusyStore(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "fault22", 1)
	node := g.nodes[0]
	f := g.serve(t, mib, 1, origin.File{})
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", node.PID()))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program, "pull", "--store", node.Store, "--output", "json", suite.origin.URL+f.urlPath)
	output, err := command.Output()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 1 || !bytes.Contains(output, []byte(`"reason":"StoreBusy"`)) {
		t.Errorf("%v: %s", err, output)
	}
	g.apply(t, "fault22", f, nil)
	waitCondition(t, "fault22", v1alpha1.ConditionReady)
	g.requireOnly(t, f.digest)
}

// TestFault22SecondAgentWaits for the store of the first one, alive and not ready, and takes it over when that one ends.
func TestFault22SecondAgentWaits(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "second", 1)
	node := g.nodes[0]
	f := g.serve(t, mib, 1, origin.File{})
	second := node.Another("second")
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := second.Stop(); err != nil {
			t.Error(err)
		}
	})
	waits := func(ctx context.Context) error {
		if err := second.Probe(ctx); err == nil || !strings.Contains(err.Error(), "not ready") {
			return fmt.Errorf("the second agent's readiness: %w", err)
		}
		return node.Probe(ctx)
	}
	eventually(t, "an agent that waits beside one that works", waits)
	g.apply(t, "second", f, nil)
	waitCondition(t, "second", v1alpha1.ConditionReady)
	eventually(t, "an agent that still waits", waits)
	if err := node.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second agent's turn", second.Probe)
	if second.Starts() != 1 {
		t.Errorf("it was started %d times", second.Starts())
	}
	g.requireOnly(t, f.digest)
}

// TestFault22ReaderOfTheLock has somebody else hold the lock of a store: the node's object says who, and the agent goes on as soon as
// the lock is free.
func TestFault22ReaderOfTheLock(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "lock", 1)
	node := g.nodes[0]
	if err := node.Stop(); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Open(filepath.Join(node.Store, "LOCK"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close() })
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	storage := func(status metav1.ConditionStatus, reason, message string) func(context.Context) error {
		return func(ctx context.Context) error {
			cache := cacheNamed(node.Name)
			if err := suite.client.Get(ctx, client.ObjectKeyFromObject(cache), cache); err != nil {
				return err
			}
			c := meta.FindStatusCondition(cache.Status.Conditions, v1alpha1.ConditionStorageReady)
			if c == nil || c.Status != status || c.Reason != reason || !strings.Contains(c.Message, message) {
				return fmt.Errorf("StorageReady: %+v", c)
			}
			return nil
		}
	}
	eventually(t, "the node's object says who holds the lock", storage(metav1.ConditionFalse, v1alpha1.ReasonStoreBusy, fmt.Sprintf("process %d (", os.Getpid())))
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent holds the store", storage(metav1.ConditionTrue, v1alpha1.ReasonStorageUsable, ""))
	f := g.serve(t, mib, 1, origin.File{})
	g.apply(t, "lock", f, nil)
	waitCondition(t, "lock", v1alpha1.ConditionReady)
	g.requireOnly(t, f.digest)
}
