package system

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/controlplane"
	"github.com/cloudimage-dev/cloudimage-operator/test/harness"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

const (
	ownNode, otherNode = "malicious-1", "malicious-2"

	imagesAPI = "/apis/prefetch.cloudimage.dev/v1alpha1/cloudimages"
	nodesAPI  = "/apis/prefetch.cloudimage.dev/v1alpha1/nodeimagecaches"
	system    = "/api/v1/namespaces/cloudimage-system"
	sources   = "/api/v1/namespaces/cloudimage-sources"

	securityPage = "../../docs/security.md"
)

// attempt is a request with a stolen token, and the API server's answer to it.
type attempt struct {
	what, method, path, body string
	headers                  map[string]string
	want                     int
}

// attempts are what whoever stole the token of the agent on malicious-1 would try. docs/security.md shows them.
func attempts() []attempt {
	const (
		get, post, put, patch, remove = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
		ok, made                      = http.StatusOK, http.StatusCreated
		no, bad                       = http.StatusForbidden, http.StatusUnprocessableEntity
	)
	own, other := nodesAPI+"/"+ownNode, nodesAPI+"/"+otherNode
	object := func(api, kind, name string) string {
		return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":{"name":%q}}`, api, kind, name)
	}
	digits := strings.Repeat("1", 1_000_000)
	applied := `{"apiVersion":"prefetch.cloudimage.dev/v1alpha1","kind":"NodeImageCache","metadata":{"name":"` + ownNode + `"},"status":{"agentVersion":"forged"}}`
	cache := object("prefetch.cloudimage.dev/v1alpha1", "NodeImageCache", "forged")
	image := object("prefetch.cloudimage.dev/v1alpha1", "CloudImage", "forged")
	return []attempt{
		{what: "read the orders and reports of every node", method: get, path: nodesAPI, want: ok},
		{what: "write its own report", method: patch, path: own + "/status", body: `{"status":{"agentVersion":"forged"}}`, want: ok},
		{what: "change its orders and finalizers along with its report", method: patch, path: own + "/status",
			body: `{"metadata":{"finalizers":["forged/stays"]},"spec":{"images":[]},"status":{"agentVersion":"forged"}}`, want: ok},
		{what: "replace its own report", method: put, path: own + "/status", body: cache, want: no},
		{what: "change its own orders", method: patch, path: own, body: `{"spec":{"images":[]}}`, want: no},
		{what: "write another node's report", method: patch, path: other + "/status", body: `{"status":{"agentVersion":"forged"}}`, want: no},
		{what: "change another node's orders", method: patch, path: other, body: `{"spec":{"images":[]}}`, want: no},
		{what: "create a NodeImageCache", method: post, path: nodesAPI, body: cache, want: no},
		{what: "delete its own", method: remove, path: own, want: no},
		{what: "delete another node's", method: remove, path: other, want: no},
		{what: "delete all of them", method: remove, path: nodesAPI, want: no},
		{what: "report 2 MB in one message", method: patch, path: own + "/status", body: megabytes("message"), want: bad},
		{what: "report 2 MB in its version", method: patch, path: own + "/status", body: megabytes("agentVersion"), want: bad},
		{what: "report 501 images", method: patch, path: own + "/status", body: manyImages(501), want: bad},
		{what: "report a time of 1 MB", method: patch, path: own + "/status", body: `{"status":{"images":[` + started("2026-01-02T03:04:05."+digits+"Z") + `]}}`, want: bad},
		{what: "report a time of 1 MB in a condition", method: patch, path: own + "/status", body: conditionAt("2026-01-02T03:04:05." + digits + "Z"), want: no},
		{what: "report a time that the manager cannot read", method: patch, path: own + "/status", body: `{"status":{"images":[` + started("2026-01-02T03:04:05x1Z") + `]}}`, want: bad},
		{what: "the same in a condition", method: patch, path: own + "/status", body: conditionAt("2026-01-02T03:04:05x1Z"), want: bad},
		{what: "report a number below 0", method: patch, path: own + "/status", body: `{"status":{"images":[{"name":"a","state":"Pulling","bytesCompleted":-1000}]}}`, want: bad},
		{what: "report as another field manager", method: patch, path: own + "/status?fieldManager=forged", body: `{"status":{"agentVersion":"forged"}}`, want: no},
		{what: "apply its report as another field manager", method: patch, path: own + "/status?fieldManager=forged&force=true", body: applied, want: no,
			headers: map[string]string{"Content-Type": "application/apply-patch+yaml"}},
		{what: "report 2 MB in a field that is not there", method: patch, path: own + "/status", body: megabytes("forged"), want: ok},
		{what: "read the CloudImages", method: get, path: imagesAPI, want: no},
		{what: "create a CloudImage", method: post, path: imagesAPI, body: image, want: no},
		{what: "change a CloudImage", method: patch, path: imagesAPI + "/any", body: `{"spec":{"suspend":true}}`, want: no},
		{what: "write a CloudImage's status", method: patch, path: imagesAPI + "/any/status", body: `{"status":{}}`, want: no},
		{what: "delete a CloudImage", method: remove, path: imagesAPI + "/any", want: no},
		{what: "read a Secret of the sources by its name", method: get, path: sources + "/secrets/malicious", want: ok},
		{what: "list the Secrets of the sources", method: get, path: sources + "/secrets", want: no},
		{what: "watch one of them", method: get, path: sources + "/secrets?watch=true&fieldSelector=metadata.name%3Dmalicious", want: no},
		{what: "allow another host in one", method: patch, path: sources + "/secrets/malicious", body: `{"metadata":{"annotations":{}}}`, want: no},
		{what: "read a Secret of the operator", method: get, path: system + "/secrets/any", want: no},
		{what: "read a Secret of kube-system", method: get, path: "/api/v1/namespaces/kube-system/secrets/any", want: no},
		{what: "list the Secrets of all namespaces", method: get, path: "/api/v1/secrets", want: no},
		{what: "list the Nodes", method: get, path: "/api/v1/nodes", want: no},
		{what: "label its Node", method: patch, path: "/api/v1/nodes/" + ownNode, body: `{"metadata":{"labels":{"forged":"true"}}}`, want: no},
		{what: "ask another node's kubelet", method: get, path: "/api/v1/nodes/" + otherNode + "/proxy/pods", want: no},
		{what: "list the operator's Pods", method: get, path: system + "/pods", want: no},
		{what: "create a Pod", method: post, path: system + "/pods", body: object("v1", "Pod", "forged"), want: no},
		{what: "run a command in a Pod", method: post, path: system + "/pods/any/exec?command=id", want: no},
		{what: "take the manager's Lease", method: patch, path: "/apis/coordination.k8s.io/v1/namespaces/cloudimage-system/leases/cloudimage-manager",
			body: `{"spec":{"holderIdentity":"forged"}}`, want: no},
		{what: "get a token of the agents' ServiceAccount", method: post, path: system + "/serviceaccounts/cloudimage-agent/token",
			body: `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest"}`, want: no},
		{what: "get a token of the manager", method: post, path: system + "/serviceaccounts/cloudimage-manager/token",
			body: `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest"}`, want: no},
		{what: "impersonate an administrator", method: get, path: "/api/v1/nodes", want: no,
			headers: map[string]string{"Impersonate-User": "admin", "Impersonate-Group": "system:masters"}},
		{what: "impersonate the agent of another node", method: patch, path: other + "/status", body: `{"status":{"agentVersion":"forged"}}`, want: no,
			headers: map[string]string{
				"Impersonate-User": "system:serviceaccount:cloudimage-system:cloudimage-agent", "Impersonate-Extra-Authentication.kubernetes.io%2fnode-Name": otherNode,
			}},
		{what: "give itself a role", method: post, path: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
			body: object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "forged"), want: no},
		{what: "delete the policy that confines it", method: remove,
			path: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/cloudimage-agent-confinement", want: no},
		{what: "read the API server's metrics", method: get, path: "/metrics", want: no},
		{what: "ask whose token one is", method: post, path: "/apis/authentication.k8s.io/v1/tokenreviews",
			body: `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"any"}}`, want: made},
		{what: "ask what somebody may do", method: post, path: "/apis/authorization.k8s.io/v1/subjectaccessreviews",
			body: `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"any","nonResourceAttributes":{"verb":"get","path":"/"}}}`, want: made},
	}
}

// megabytes is a report with one field that is far too large; message is of an image.
func megabytes(field string) string {
	large := strings.Repeat("x", 2_000_000)
	if field == "message" {
		return fmt.Sprintf(`{"status":{"images":[{"name":"a","revision":"r","state":"Failed","message":%q}]}}`, large)
	}
	return fmt.Sprintf(`{"status":{%q:%q}}`, field, large)
}

// started is a report on an image whose pull began at a time.
func started(at string) string {
	return fmt.Sprintf(`{"name":"a","state":"Failed","startTime":%q}`, at)
}

// conditionAt is a report with a condition of a time.
func conditionAt(at string) string {
	return fmt.Sprintf(`{"status":{"conditions":[{"type":"StorageReady","status":"True","reason":"Forged","message":"","lastTransitionTime":%q}]}}`, at)
}

func manyImages(count int) string {
	images := make([]map[string]any, count)
	for i := range images {
		images[i] = map[string]any{"name": fmt.Sprintf("image-%d", i), "revision": "r", "state": "Pending"}
	}
	content, _ := json.Marshal(map[string]any{"status": map[string]any{"images": images}}) // maps of strings always encode
	return string(content)
}

// TestMaliciousAgent uses the real token of one node's agent by hand.
func TestMaliciousAgent(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "malicious", 2)
	g.apply(t, "malicious-image", g.serve(t, mib, 1, origin.File{}), func(spec *v1alpha1.CloudImageSpec) { spec.Suspend = true })
	before := map[string]types.UID{}
	for _, node := range g.nodes {
		eventually(t, "the orders of "+node.Name, func(ctx context.Context) error {
			cache := cacheNamed(node.Name)
			err := suite.client.Get(ctx, client.ObjectKey{Name: node.Name}, cache)
			if before[node.Name] = cache.UID; err == nil && !ordered(cache, "malicious-image") {
				err = fmt.Errorf("orders are %+v", cache.Spec.Images)
			}
			return err
		})
	}
	create(t, &corev1.Secret{ObjectMeta: inSources("malicious"), StringData: map[string]string{"token": "secret"}})
	stolen := configOf(t, filepath.Join(filepath.Dir(g.nodes[0].Store), "kubeconfig"))
	var table strings.Builder
	for _, a := range attempts() {
		t.Run(a.what, func(t *testing.T) {
			if got, message := request(t, stolen, a); got != a.want {
				t.Errorf("%s %s: %d %.300s, want %d", a.method, a.path, got, message, a.want)
			}
		})
		fmt.Fprintf(&table, "| %s | `%s %s` | %d |\n", a.what, a.method, strings.TrimPrefix(a.path, "/apis/prefetch.cloudimage.dev/v1alpha1"), a.want)
	}
	requireDocumented(t, table.String())
	for name, uid := range before {
		cache := cacheNamed(name)
		if err := suite.client.Get(t.Context(), client.ObjectKey{Name: name}, cache); err != nil {
			t.Fatal(err)
		}
		content, _ := json.Marshal(cache) // it came as JSON
		if cache.UID != uid || len(cache.Finalizers) > 0 || !ordered(cache, "malicious-image") || len(content) > 100_000 {
			t.Errorf("the object of %s is another one: finalizers %q, orders %+v, %d bytes", name, cache.Finalizers, cache.Spec.Images, len(content))
		}
	}
}

func ordered(cache *v1alpha1.NodeImageCache, image string) bool {
	return slices.ContainsFunc(cache.Spec.Images, func(order v1alpha1.AssignedImage) bool { return order.Name == image })
}

// TestTokensThatAreNoNodes: a token of the agents' ServiceAccount is worth something only while it is bound to a living Pod of the node.
func TestTokensThatAreNoNodes(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "tokens", 1)
	node := g.nodes[0].Name
	own := attempt{method: http.MethodPatch, path: nodesAPI + "/" + node + "/status", body: `{"status":{"agentVersion":"forged"}}`}
	eventually(t, "the write of an administrator", func(context.Context) error { // once the manager has made the object
		if got, message := request(t, suite.plane.Config, own); got != http.StatusOK {
			return fmt.Errorf("%d %s, want 200", got, message)
		}
		return nil
	})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: harness.Namespace, Name: "tokens-gone"}, Spec: corev1.PodSpec{
		NodeName: node, ServiceAccountName: "cloudimage-agent", Containers: []corev1.Container{{Name: "agent", Image: "agent"}},
	}}
	if err := suite.client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	gone := tokenConfig(t, &controlplane.Binding{PodName: pod.Name, PodUID: pod.UID})
	if err := suite.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token of a Pod that is gone", func(context.Context) error {
		if got, message := request(t, gone, own); got != http.StatusUnauthorized {
			return fmt.Errorf("%d %s, want 401", got, message)
		}
		return nil
	})
	if got, message := request(t, tokenConfig(t, nil), own); got != http.StatusForbidden {
		t.Errorf("a token that is bound to no Pod: %d %s, want 403", got, message)
	}
}

// requireDocumented compares the answers with the table in docs/security.md.
func requireDocumented(t *testing.T, table string) {
	t.Helper()
	page, err := os.ReadFile(securityPage)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "\n"+table+"\n") {
		t.Errorf("docs/security.md does not show this table:\n%s", table)
	}
}

// requireStated looks for numbers in docs/security.md.
func requireStated(t *testing.T, texts ...string) {
	t.Helper()
	page, err := os.ReadFile(securityPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if !strings.Contains(string(page), text) {
			t.Errorf("docs/security.md does not say %q", text)
		}
	}
}

func tokenConfig(t *testing.T, binding *controlplane.Binding) *rest.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := suite.plane.WriteServiceAccountKubeconfig(t.Context(), path, harness.Namespace, "cloudimage-agent", binding); err != nil {
		t.Fatal(err)
	}
	return configOf(t, path)
}

func configOf(t *testing.T, kubeconfig string) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// request makes an attempt and returns the answer's status and the message in it.
func request(t *testing.T, config *rest.Config, a attempt) (status int, message string) {
	t.Helper()
	response, content := answerTo(t, config, a)
	answer := metav1.Status{}
	_ = json.Unmarshal(content, &answer) // what is no Status has no message
	return response.StatusCode, answer.Message
}

// answerTo makes an attempt and returns the answer, whose body is read and closed, and that body.
func answerTo(t *testing.T, config *rest.Config, a attempt) (response *http.Response, content []byte) {
	t.Helper()
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer httpClient.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), a.method, config.Host+a.path, strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if a.method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for name, value := range a.headers {
		r.Header.Set(name, value)
	}
	if response, err = httpClient.Do(r); err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if content, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	return response, content
}
