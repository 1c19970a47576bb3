package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
)

// The files of testdata/upgrade are what programs of the release before wrote: objects as the API server held them, and the bodies
// of the reports that its agents sent, in their order.
const goldenFolder = "testdata/upgrade/"

// golden reads one of these files.
func golden(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(goldenFolder + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		t.Fatal(err)
	}
}

// TestObjectsOfTheReleaseBefore writes them again, and does to them what a manager of either version does.
func TestObjectsOfTheReleaseBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "golden")
	var objects unstructured.UnstructuredList
	golden(t, "objects.json", &objects)
	if len(objects.Items) < 10 {
		t.Fatalf("only %d objects were found", len(objects.Items))
	}
	for i := range objects.Items {
		object := &objects.Items[i]
		finalizers, status := object.GetFinalizers(), object.Object["status"]
		t.Run(object.GetKind()+" "+object.GetName(), func(t *testing.T) {
			if err := w.client.Create(t.Context(), object); err != nil {
				t.Fatalf("the object itself: %v", err)
			}
			if status == nil {
				return // nobody has reported yet
			}
			object.Object["status"] = status
			if err := w.client.Status().Update(t.Context(), object); err != nil {
				t.Fatalf("its status: %v", err)
			}
			stored, err := json.Marshal(object.Object["status"])
			if wrote, _ := json.Marshal(status); err != nil || string(stored) != string(wrote) {
				t.Errorf("the status was %s and is %s (%v)", wrote, stored, err)
			}
			generation := object.GetGeneration()
			if err := w.client.Status().Update(t.Context(), object); err != nil {
				t.Errorf("the same status again: %v", err)
			}
			object.SetFinalizers(nil)
			if err := w.client.Update(t.Context(), object); err != nil {
				t.Errorf("without its finalizers %q: %v", finalizers, err)
			}
			if object.GetGeneration() != generation {
				t.Errorf("that is generation %d and not %d: its spec has changed", object.GetGeneration(), generation)
			}
		})
	}
	w.replayReports(t, objects.Items)
}

// report is a request of an agent of the release before.
type report struct {
	Node, ContentType, Body string
}

// replayReports sends reports with the tokens of their agents, and the largest that an agent of the release before can send.
func (w *world) replayReports(t *testing.T, objects []unstructured.Unstructured) {
	t.Helper()
	var reports []report
	golden(t, "reports.json", &reports)
	agents := map[string]*harness.Node{}
	for i := range objects {
		if name := objects[i].GetName(); objects[i].GetKind() == "NodeImageCache" && agents[name] == nil {
			g := group{world: w, name: "golden"}
			agents[name] = g.add(t, name)
			g.waitAgent(t, agents[name])
			if err := agents[name].Stop(); err != nil {
				t.Fatal(err)
			}
			if err := w.client.Status().Patch(t.Context(), cacheNamed(name), client.RawPatch(types.MergePatchType, []byte(`{"status":null}`))); err != nil {
				t.Fatal(err)
			}
		}
	}
	sent := 0
	for _, r := range append(reports, largestHonest(reports[0].Node)...) {
		a := attempt{
			method: http.MethodPatch, path: nodesAPI + "/" + r.Node + "/status", body: r.Body,
			headers: map[string]string{"Content-Type": r.ContentType, "User-Agent": "cloudimage-node-agent/v0.1.0"},
		}
		if got, message := request(t, configOf(t, kubeconfigOf(agents[r.Node])), a); got != http.StatusOK {
			t.Errorf("%s, report %.300s: %d %.500s", r.Node, r.Body, got, message)
		}
		sent++
	}
	if sent < 20 {
		t.Errorf("only %d reports were sent", sent)
	}
}

// largestHonest are reports of 500 images that failed with the longest messages: of plain text, of letters of two bytes, and some
// of what a server made an agent of the release before say. That one cuts a message after 256 bytes.
func largestHonest(node string) []report {
	message := func(i int, text string) string {
		if i < 32 {
			return strings.Repeat("\x1b", 256)
		}
		return text
	}
	var reports []report
	for _, text := range []string{strings.Repeat("x", 256), strings.Repeat("ü", 128), strings.Repeat(`"\<>`, 4) + strings.Repeat("x", 240)} {
		images := make([]v1alpha1.ImageStatus, 500)
		for i := range images {
			images[i] = v1alpha1.ImageStatus{
				Name: fmt.Sprintf("%063d", i), Revision: "0123456789abcdef", State: v1alpha1.StateFailed,
				Reason: v1alpha1.ReasonUnsupportedContent, Message: message(i, text), Attempts: 1000, SizeBytes: 1 << 40,
			}
		}
		body, _ := json.Marshal(map[string]any{"status": map[string]any{"images": images}}) // structs always encode
		reports = append(reports, report{Node: node, ContentType: "application/merge-patch+json", Body: string(body)})
	}
	return reports
}
