package system

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// What docs/security.md says that an agent's token can store at most.
const (
	mostStored   = 510_000
	mostManagers = 12
)

// TestMostThatAStolenTokenStores writes the largest report that is taken, under as many names as it can.
func TestMostThatAStolenTokenStores(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "hoarder", 1)
	node := g.nodes[0]
	if err := node.Stop(); err != nil { // it would correct what is forged
		t.Fatal(err)
	}
	stolen := configOf(t, kubeconfigOf(node))
	report := attempt{method: http.MethodPatch, path: nodesAPI + "/" + node.Name + "/status"}
	send := func(status map[string]any, headers map[string]string, query string) (int, string) {
		content, err := json.Marshal(map[string]any{"status": status})
		if err != nil {
			t.Fatal(err)
		}
		a := report
		a.body, a.headers = string(content), headers
		a.path += query
		return request(t, stolen, a)
	}
	eventually(t, "the node's object", func(context.Context) error {
		if got, message := send(map[string]any{"agentVersion": "forged"}, nil, ""); got != http.StatusOK {
			return fmt.Errorf("%d %s", got, message)
		}
		return nil
	})
	status := map[string]any{"nodeUID": strings.Repeat("\x01", 64), "agentVersion": strings.Repeat("\x01", 64), "conditions": largestConditions(), "images": largestImages()}
	if got, message := send(status, nil, ""); got != http.StatusOK {
		t.Fatalf("what is to be the largest report: %d %.500s", got, message)
	}
	conditions := largestConditions()
	for i := range 40 { // each owns a field of its own, or it would own none in the end
		name := fmt.Sprintf("%03d%s", i, strings.Repeat("x", 125))
		conditions[i%8][[]string{"message", "reason", "status", "observedGeneration", "lastTransitionTime"}[i/8]] = []any{
			strings.Repeat("\x02", 256), strings.Repeat("S", 64), "False", i, "2026-01-02T03:04:06.0000000000000000000Z",
		}[i/8]
		if got, message := send(map[string]any{"conditions": conditions}, map[string]string{"User-Agent": name}, ""); got != http.StatusOK {
			t.Fatalf("User-Agent %s: %d %s", name, got, message)
		}
		if got, _ := send(map[string]any{"agentVersion": name[:64]}, nil, "?fieldManager="+name); got != http.StatusForbidden {
			t.Errorf("field manager %s: %d, want 403", name, got)
		}
	}
	_, stored := answerTo(t, suite.plane.Config, attempt{method: http.MethodGet, path: nodesAPI + "/" + node.Name})
	cache := &v1alpha1.NodeImageCache{}
	if err := json.Unmarshal(stored, cache); err != nil {
		t.Fatalf("the manager cannot read the object: %v", err)
	}
	t.Logf("%d bytes, %d field managers", len(stored), len(cache.ManagedFields))
	if len(stored) > mostStored || len(cache.ManagedFields) > mostManagers {
		t.Errorf("%d bytes and %d field managers are stored, at most %d and %d are documented", len(stored), len(cache.ManagedFields), mostStored, mostManagers)
	}
	requireStated(t, fmt.Sprintf("%d,%03d bytes", mostStored/1000, mostStored%1000), fmt.Sprintf("%d field managers", mostManagers))
}

// largestImages fill the texts of 500 images with what takes most room once it is stored: 32 messages of characters that take six
// bytes, others with as many of these as pass, and the rest of the bytes that texts may have.
func largestImages() []map[string]any {
	const most, time = 1<<63 - 1024, "2026-01-02T03:04:05Z"
	images := make([]map[string]any, 500)
	left := 210_000 - len(images)*(1+256)
	for i := range images {
		message := strings.Repeat("\x01", 256)
		if i >= 32 {
			message = strings.Repeat("\x01", 16) + strings.Repeat("x", 240)
		}
		reason := strings.Repeat("R", min(64, left))
		left -= len(reason)
		revision := strings.Repeat("r", min(64, left))
		left -= len(revision)
		images[i] = map[string]any{
			"name": "a", "revision": revision, "reason": reason, "message": message, "state": "Pending", "format": "Opaque",
			"sizeBytes": most, "virtualSizeBytes": most, "bytesCompleted": most, "bytesHashed": most, "resumedBytes": most,
			"attempts": 1_000_000_000, "retry": 1_000_000_000, "averageBytesPerSecond": 1 << 50, "startTime": time, "completionTime": time,
		}
	}
	return images
}

func largestConditions() []map[string]any {
	conditions := make([]map[string]any, 8)
	for i := range conditions {
		conditions[i] = map[string]any{
			"type": fmt.Sprintf("%064d", i), "reason": strings.Repeat("R", 64), "message": strings.Repeat("\x01", 256), "status": "Unknown",
			"lastTransitionTime": "2026-01-02T03:04:05.0000000000000000000Z", "observedGeneration": 1 << 53,
		}
	}
	return conditions
}

// TestFlowControlTakesTheReports: with config/flow-control, which nothing installs by itself, the API server counts the agents'
// reports as a flow of their own, and nothing else as that.
func TestFlowControlTakesTheReports(t *testing.T) {
	t.Parallel()
	const folder, schema = "../../config/flow-control", "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/cloudimage-agent-reports"
	g := newGroup(t, "flow-control", 1)
	if _, err := suite.cluster.Kubectl(t.Context(), nil, "apply", "--server-side", "-k", folder); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := suite.cluster.Kubectl(context.WithoutCancel(t.Context()), nil, "delete", "-k", folder); err != nil {
			t.Error(err)
		}
	})
	var want metav1.PartialObjectMetadata
	if _, content := answerTo(t, suite.plane.Config, attempt{method: http.MethodGet, path: schema}); json.Unmarshal(content, &want) != nil || want.UID == "" {
		t.Fatalf("the flow schema is %s", content)
	}
	agent := configOf(t, kubeconfigOf(g.nodes[0]))
	own := nodesAPI + "/" + g.nodes[0].Name
	for _, tt := range []struct {
		what  string
		by    attempt
		taken bool
	}{
		{"a report", attempt{method: http.MethodPatch, path: own + "/status", body: `{"status":{"agentVersion":"forged"}}`}, true},
		{"a look at the orders", attempt{method: http.MethodGet, path: own}, false},
	} {
		eventually(t, tt.what, func(context.Context) error { // once the API server has read the schema
			response, content := answerTo(t, agent, tt.by)
			got := response.Header.Get("X-Kubernetes-Pf-Flowschema-Uid")
			if response.StatusCode != http.StatusOK || (got == string(want.UID)) != tt.taken {
				return fmt.Errorf("%s: %.200s; it is of the flow schema %s, that of reports is %s", response.Status, content, got, want.UID)
			}
			return nil
		})
	}
	f := g.serve(t, mib, 1, origin.File{})
	g.apply(t, "flow-control", f, nil)
	eventually(t, "an image through it", func(ctx context.Context) error { return suite.ready(ctx, "flow-control", 1, f.digest) })
}
