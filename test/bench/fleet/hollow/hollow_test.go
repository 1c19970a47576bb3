package hollow

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
)

func TestNodesAreAsLargeAsRealOnes(t *testing.T) {
	// As it is stored, which is shorter than JSON.
	if size := NodeObject("fleet-00001", nil).Size(); size < 15_000 {
		t.Errorf("a Node has %d bytes, want at least 15,000", size)
	}
}

func order(name, digest string) v1alpha1.AssignedImage {
	return v1alpha1.AssignedImage{
		Name: name, Digest: digest, Revision: "1", Source: v1alpha1.ImageSource{HTTP: &v1alpha1.HTTPSource{URL: "https://images.example/" + name}},
	}
}

func TestPullTakesItsTimeAndShowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := NewBoard(time.Now)
		engine := NewEngine("n-1", time.Minute, board)
		began := time.Now()
		var reports []int64
		pulled, err := engine.Pull(t.Context(), order("a", "sha256:1"), &controller.Turn{}, func(p controller.Progress) { reports = append(reports, p.Completed) })
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 53*time.Second || took > 67*time.Second {
			t.Errorf("the pull took %s, want a minute and at most a tenth more or less", took)
		}
		if len(reports) != steps || reports[0] <= 0 || reports[steps-1] > imageBytes {
			t.Errorf("progress was %v", reports)
		}
		if pulled.Digest != "sha256:1" || pulled.SizeBytes != imageBytes {
			t.Errorf("pulled %+v", pulled)
		}
		if most := board.Round().MostPulling; most != 1 {
			t.Errorf("%d nodes pulled at once, want 1", most)
		}
	})
}

func TestDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := NewEngine("n-1", time.Second, NewBoard(time.Now))
		a, b := order("a", "sha256:1"), order("b", "sha256:1")
		if _, err := engine.Adopt(t.Context(), a); !errors.Is(err, controller.ErrNotOnDisk) {
			t.Errorf("adopted from an empty disk: %v", err)
		}
		if _, err := engine.Pull(t.Context(), a, &controller.Turn{}, func(controller.Progress) {}); err != nil {
			t.Fatal(err)
		}
		if _, err := engine.Adopt(t.Context(), b); err != nil {
			t.Errorf("adopt what lies there: %v", err)
		}
		blobs := func() string {
			room, err := engine.Room()
			names, errLinked := engine.Linked()
			return fmt.Sprint(room.BlobBytes/imageBytes, names, err, errLinked)
		}
		if err := engine.Purge(a); err != nil || blobs() != "1 [b] <nil> <nil>" {
			t.Errorf("after one of two links went: %s (%v)", blobs(), err)
		}
		if err := engine.Purge(b); err != nil || blobs() != "0 [] <nil> <nil>" {
			t.Errorf("after both went: %s (%v)", blobs(), err)
		}
	})
}

func TestBoard(t *testing.T) {
	now := time.Unix(100, 0)
	board := NewBoard(func() time.Time { return now })
	object := func(node string, generation int64, revision string) *v1alpha1.NodeImageCache {
		a, b := order("a", ""), order("b", "")
		a.Revision, b.Revision = revision, revision
		return &v1alpha1.NodeImageCache{
			ObjectMeta: metav1.ObjectMeta{Name: node, Generation: generation},
			Spec:       v1alpha1.NodeImageCacheSpec{Images: []v1alpha1.AssignedImage{a, b}},
		}
	}
	seen := sight{revisions: map[string]string{}}
	board.Applied("a")
	now = now.Add(time.Second)
	board.look(&seen, object("n-1", 1, "r1")) // b was not applied in this round
	now = now.Add(time.Second)
	board.look(&seen, object("n-1", 2, "r1")) // a slot was granted, which is no new order
	if diff := cmp.Diff(Round{Delays: []time.Duration{time.Second}, Last: time.Unix(101, 0)}, board.Round()); diff != "" {
		t.Errorf("first round (-want +got):\n%s", diff)
	}

	board.NewRound()
	board.Applied("a")
	board.Applied("b")
	now = now.Add(3 * time.Second)
	board.look(&seen, object("n-1", 3, "r2"))
	if got := board.Round().Delays; len(got) != 2 || got[0] != 3*time.Second {
		t.Errorf("second round: %v", got)
	}

	board.Joining("n-2", 2)
	board.Visible("n-2")
	now = now.Add(4 * time.Second)
	joined := sight{revisions: map[string]string{}}
	board.look(&joined, object("n-2", 1, "r2"))
	now = now.Add(time.Second)
	board.look(&joined, object("n-2", 2, "r3")) // it has joined already
	if diff := cmp.Diff([]time.Duration{4 * time.Second}, board.Joins()); diff != "" {
		t.Errorf("joins (-want +got):\n%s", diff)
	}
	if got := board.Round().Delays; len(got) != 4 {
		t.Errorf("the rollout has %v, want two delays from before, none of the join, and two of a node that had joined", got)
	}
}
