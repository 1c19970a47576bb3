package audit

import (
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const statusPatch = `{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","stage":"ResponseComplete",` +
	`"requestURI":"/apis/prefetch.cloudimage.dev/v1alpha1/nodeimagecaches/n-1/status","verb":"patch",` +
	`"user":{"username":"system:serviceaccount:cloudimage-system:cloudimage-agent","extra":{"authentication.kubernetes.io/node-name":["n-1"]}},` +
	`"objectRef":{"resource":"nodeimagecaches","name":"n-1","apiGroup":"prefetch.cloudimage.dev","subresource":"status"},` +
	`"responseStatus":{"metadata":{},"code":200},` +
	`"requestReceivedTimestamp":"2026-01-02T03:04:05.100000Z","stageTimestamp":"2026-01-02T03:04:05.112500Z"}` + "\n"

func TestReadAlong(t *testing.T) {
	log, flags, err := Prepare(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if len(flags) == 0 {
		t.Error("no flags for the API server")
	}
	file, err := os.OpenFile(log.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	want := Write{
		User: "system:serviceaccount:cloudimage-system:cloudimage-agent", Verb: "patch", Resource: "nodeimagecaches/status", Name: "n-1",
		Code: 200, At: time.Date(2026, 1, 2, 3, 4, 5, 100e6, time.UTC), Took: 12500 * time.Microsecond,
	}
	half := len(statusPatch) / 2
	for _, step := range []struct {
		name, written string
		want          []Write
	}{
		{"nothing yet", "", nil},
		{"two events and half a third", statusPatch + statusPatch + statusPatch[:half], []Write{want, want}},
		{"the other half", statusPatch[half:], []Write{want}},
		{"nothing more", "", nil},
	} {
		if _, err := file.WriteString(step.written); err != nil {
			t.Fatal(err)
		}
		got, err := log.Read()
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestReadRefusesWhatIsNoEvent(t *testing.T) {
	if _, err := parse([]byte("<html>\n")); err == nil {
		t.Error("a line that is no JSON was taken for an event")
	}
}
