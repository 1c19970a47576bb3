package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const mib = 1 << 20

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func image(change func(*v1alpha1.CloudImage)) *v1alpha1.CloudImage {
	limit := intstr.FromInt32(10)
	i := &v1alpha1.CloudImage{ObjectMeta: metav1.ObjectMeta{Name: "debian", Generation: 1}}
	i.Spec.Source.HTTP = &v1alpha1.HTTPSource{URL: "https://example.com/debian.qcow2?token=secret"}
	i.Spec.Rollout.MaxConcurrentNodes = &limit
	i.Status = v1alpha1.CloudImageStatus{
		ObservedGeneration: 1, SizeBytes: 100 * mib, Nodes: v1alpha1.NodeCounts{Desired: 5, Ready: 1, Pulling: 2},
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionUnknown, Reason: "Warming", Message: "1 of 5 nodes ready"}},
	}
	if change != nil {
		change(i)
	}
	return i
}

// node has one order, and one report unless its state is empty.
func node(name string, action v1alpha1.ImageAction, report v1alpha1.ImageStatus) v1alpha1.NodeImageCache {
	c := v1alpha1.NodeImageCache{ObjectMeta: metav1.ObjectMeta{Name: name}}
	c.Spec = v1alpha1.NodeImageCacheSpec{NodeUID: "u", Images: []v1alpha1.AssignedImage{{Name: "debian", Revision: "r", Action: action}}}
	c.Status.NodeUID = "u"
	if report.State != "" {
		report.Name = "debian"
		if report.Revision == "" {
			report.Revision = "r"
		}
		c.Status.Images = []v1alpha1.ImageStatus{report}
	}
	return c
}

func pulling(done, resumed int64) v1alpha1.ImageStatus {
	return v1alpha1.ImageStatus{State: v1alpha1.StatePulling, BytesCompleted: done, ResumedBytes: resumed, StartTime: &metav1.Time{Time: now.Add(-10 * time.Second)}}
}

// unanswered is a pull that would have told more by now.
func unanswered() v1alpha1.ImageStatus {
	s := pulling(0, 0)
	s.StartTime = &metav1.Time{Time: now.Add(-toldWithin - time.Second)}
	return s
}

func TestStatus(t *testing.T) {
	t.Parallel()
	caches := []v1alpha1.NodeImageCache{
		node("a", v1alpha1.ActionPull, v1alpha1.ImageStatus{State: v1alpha1.StateReady, AverageBytesPerSecond: 5 * mib}),
		node("b", v1alpha1.ActionHold, v1alpha1.ImageStatus{}),
		node("c", v1alpha1.ActionPull, pulling(50*mib, 20*mib)),
		node("d", v1alpha1.ActionPull, v1alpha1.ImageStatus{State: v1alpha1.StateFailed, Reason: "NotFound", Message: "the server answered 404", Attempts: 2}),
		node("e", v1alpha1.ActionPull, v1alpha1.ImageStatus{State: v1alpha1.StateReady, Revision: "older"}),
		node("g", v1alpha1.ActionPull, unanswered()),
		node("i", v1alpha1.ActionPull, pulling(0, 0)),
		node("h", v1alpha1.ActionPull, v1alpha1.ImageStatus{State: v1alpha1.StatePending}),
		{ObjectMeta: metav1.ObjectMeta{Name: "f"}},
	}
	caches[len(caches)-2].Status.Images = append(caches[len(caches)-2].Status.Images,
		v1alpha1.ImageStatus{Name: "fedora", State: v1alpha1.StatePulling, SizeBytes: mib}, v1alpha1.ImageStatus{Name: "ubuntu", State: v1alpha1.StatePulling, BytesCompleted: 1},
		func() v1alpha1.ImageStatus { s := unanswered(); s.Name = "silent"; return s }())
	var out bytes.Buffer
	if err := writeImage(&out, image(nil), rowsOf(image(nil), caches, now), false); err != nil {
		t.Fatal(err)
	}
	want := `IMAGE    debian
STATUS   Warming: 1 of 5 nodes ready
SOURCE   https://example.com/debian.qcow2?…
DIGEST   not known yet: the first node's is taken
SIZE     100 MiB

NODE   STATE     PROGRESS                       RATE        WHY
d      Failed    -                              -           NotFound: the server answered 404; attempt 2
c      Pulling   [##########..........]  50 %   3.0 MiB/s   resumed at 20 MiB
g      Pulling   -                              -           the server has not answered yet
i      Pulling   -                              -           it has begun, and tells how far it is within half a minute
e      Pending   -                              -           
h      Pending   -                              -           its turn comes when the node has pulled fedora or ubuntu
b      Waiting   -                              -           its turn comes when another node is done
a      Ready     100 MiB                        5.0 MiB/s   
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// away names nodes whose agent is away, and says how many there are.
func away(count int32, nodes ...string) func(*v1alpha1.CloudImage) {
	return func(i *v1alpha1.CloudImage) {
		i.Status.Nodes.Unavailable = count
		for _, node := range nodes {
			i.Status.Failures = append(i.Status.Failures, v1alpha1.NodeFailure{Node: node, Reason: v1alpha1.ReasonAgentUnavailable, Message: "its agent's Pod is Pending (agent-x)."})
		}
	}
}

// TestStatusOfNodesThatAreAway: what an agent reported before it went is no state.
func TestStatusOfNodesThatAreAway(t *testing.T) {
	t.Parallel()
	caches := []v1alpha1.NodeImageCache{
		node("a", v1alpha1.ActionPull, v1alpha1.ImageStatus{State: v1alpha1.StateReady, AverageBytesPerSecond: 5 * mib}),
		node("b", v1alpha1.ActionHold, v1alpha1.ImageStatus{}),
		node("c", v1alpha1.ActionPull, pulling(50*mib, 20*mib)),
		node("d", v1alpha1.ActionPull, v1alpha1.ImageStatus{State: v1alpha1.StateReady}),
	}
	i := image(away(5, "a", "b", "c"))
	var out bytes.Buffer
	if err := writeImage(&out, i, rowsOf(i, caches, now), false); err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(out.String(), "\n\n")
	want := `NODE   STATE         PROGRESS   RATE   WHY
a      Unavailable   -          -      AgentUnavailable: it held the image; its agent's Pod is Pending (agent-x).
b      Unavailable   -          -      AgentUnavailable: its agent's Pod is Pending (agent-x).
c      Unavailable   -          -      AgentUnavailable: its agent's Pod is Pending (agent-x).
d      Ready         100 MiB    -      
Agents that are away besides these: 2. Their nodes are shown as they last reported; see which: ` + agentPods + "\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestStatusOfNodesWithoutATurn: nobody is told to wait for a turn that does not come.
func TestStatusOfNodesWithoutATurn(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*v1alpha1.CloudImage){
		"its turn comes when another node is done":   nil,
		"spec.suspend is true, so nothing is pulled": func(i *v1alpha1.CloudImage) { i.Spec.Suspend = true },
		"the rollout has stopped": func(i *v1alpha1.CloudImage) {
			condition(i, v1alpha1.ConditionStalled, metav1.ConditionTrue, "NotFound")
		},
	} {
		if got := rowsOf(image(change), []v1alpha1.NodeImageCache{node("b", v1alpha1.ActionHold, v1alpha1.ImageStatus{})}, now)[0].why(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestReadyNodesAreCut(t *testing.T) {
	t.Parallel()
	rows := make([]row, readyShown+5)
	for i := range rows {
		rows[i] = row{node: "n", state: stateReady}
	}
	var short, long bytes.Buffer
	if err := writeRows(&short, rows, false); err != nil {
		t.Fatal(err)
	}
	if err := writeRows(&long, rows, true); err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(short.String(), "and 5 more ready nodes; --all lists them\n") || strings.Count(short.String(), "\n") != readyShown+2 {
		t.Errorf("got\n%s", short.String())
	}
	if got := strings.Count(long.String(), "\n"); got != len(rows)+1 {
		t.Errorf("--all has %d lines, want %d", got, len(rows)+1)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	selected := func(i *v1alpha1.CloudImage) {
		i.Spec.NodeSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"disk": "fast"}}
	}
	assigned := func(action v1alpha1.ImageAction, report v1alpha1.ImageStatus) *v1alpha1.NodeImageCache {
		c := node("n", action, report)
		return &c
	}
	plain := &corev1.Node{}
	tests := []struct {
		name   string
		change func(*v1alpha1.CloudImage)
		node   *corev1.Node
		cache  *v1alpha1.NodeImageCache
		want   string
	}{
		{"no node", nil, nil, nil, "There is no Node n."},
		{"not selected", selected, plain, nil, "spec.nodeSelector (disk=fast) does not match"},
		{"no agent", nil, plain, nil, "No agent was ever seen on n"},
		{"not assigned", nil, plain, &v1alpha1.NodeImageCache{}, "not assigned to n yet"},
		{"ready", nil, plain, assigned("Pull", v1alpha1.ImageStatus{State: "Ready", Digest: "sha256:ab"}), "as blobs/sha256/ab in its store"},
		{"pulling", nil, plain, assigned("Pull", pulling(50*mib, 0)), "50 % at 5.0 MiB/s"},
		{"failed", nil, plain, assigned("Pull", v1alpha1.ImageStatus{State: "Failed", Reason: "NotFound", Message: "404"}), "NotFound: 404\nkubectl cloudimage retry debian"},
		{"waits for a server", nil, plain, assigned("Pull", v1alpha1.ImageStatus{State: "Failed", Reason: "SourceThrottled", Message: "503"}), "SourceThrottled: 503\nThe agent asks again by itself"},
		{"waits for the world", nil, plain, assigned("Pull", v1alpha1.ImageStatus{State: "Failed", Reason: "CredentialsMissing", Message: "gone"}), "CredentialsMissing: gone\nIt goes on by itself"},
		{"waits for an answer", nil, plain, assigned("Pull", unanswered()), "waits for the server's first answer"},
		{"began a moment ago", nil, plain, assigned("Pull", pulling(0, 0)), "It has begun"},
		{"removing", nil, plain, assigned("Remove", v1alpha1.ImageStatus{}), "was told to drop it"},
		{"unanswered", nil, plain, assigned("Pull", v1alpha1.ImageStatus{}), "has not answered"},
		{"begins", nil, plain, assigned("Pull", v1alpha1.ImageStatus{State: "Pending"}), "waits for other pulls of the node"},
		{"waits for others", nil, plain, func() *v1alpha1.NodeImageCache {
			c := assigned("Pull", v1alpha1.ImageStatus{State: "Pending"})
			c.Status.Images = append(c.Status.Images, v1alpha1.ImageStatus{Name: "fedora", State: v1alpha1.StatePulling, SizeBytes: mib}, v1alpha1.ImageStatus{Name: "ubuntu", State: v1alpha1.StateReady})
			return c
		}(), "waits for other pulls of the node to end, of fedora."},
		{"waits for a slot", func(i *v1alpha1.CloudImage) { i.Status.Digest = "sha256:ab" }, plain, assigned("Hold", v1alpha1.ImageStatus{}), "nodes that pull now: 2; spec.rollout.maxConcurrentNodes is 10"},
		{"waits for the digest", func(i *v1alpha1.CloudImage) { i.Spec.Digest, i.Status.Digest = "", "" }, plain, assigned("Hold", v1alpha1.ImageStatus{}), "one node pulls first"},
		{"suspended", func(i *v1alpha1.CloudImage) { i.Spec.Suspend = true }, plain, assigned("Hold", v1alpha1.ImageStatus{}), "spec.suspend is true"},
		{"stopped", func(i *v1alpha1.CloudImage) {
			i.Status.Conditions = append(i.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionStalled, Status: metav1.ConditionTrue})
		}, plain, assigned("Hold", v1alpha1.ImageStatus{}), "The rollout has stopped. Warming: 1 of 5 nodes ready"},
		{"away", away(1, "n"), plain, assigned("Pull", v1alpha1.ImageStatus{State: "Ready"}), "n: Unavailable\nAgentUnavailable: it held the image; its agent's Pod is Pending"},
		{"away, and waits", away(1, "n"), plain, assigned("Hold", v1alpha1.ImageStatus{}), "n: Unavailable\nAgentUnavailable: its agent's Pod is Pending"},
		{"away, and not named", away(1), plain, assigned("Pull", v1alpha1.ImageStatus{State: "Ready"}), "the image does not name all agents that are away. See whether its Pod is ready"},
		{"a node made anew", nil, plain, func() *v1alpha1.NodeImageCache {
			c := assigned("Pull", v1alpha1.ImageStatus{State: "Ready", Digest: "sha256:ab"})
			c.Status.NodeUID = "older"
			return c
		}(), "has not answered"},
		{"a store that cannot be used", nil, plain, func() *v1alpha1.NodeImageCache {
			c := assigned("Pull", pulling(mib, 0))
			c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionStorageReady, Status: metav1.ConditionFalse, Reason: "StorageError", Message: "read-only"}}
			return c
		}(), "The store of n cannot be used: StorageError: read-only"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := strings.Join(facts{name: "n", image: image(test.change), node: test.node, cache: test.cache}.explain(now), "\n")
			if !strings.Contains(got, test.want) {
				t.Errorf("got\n%s\nwant it to contain %q", got, test.want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args []string
		want int
	}{
		{[]string{"version"}, exitOK},
		{[]string{"--help"}, exitOK},
		{nil, exitUsage},
		{[]string{"stauts"}, exitUsage},
		{[]string{"status"}, exitUsage},
		{[]string{"why", "node"}, exitUsage},
		{[]string{"watch", "a", "b"}, exitUsage},
		{[]string{"status", "a", "--kubeconfig", "/does/not/exist"}, exitError},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			if got := run(t.Context(), test.args, &stdout, &stderr); got != test.want {
				t.Errorf("exit %d, want %d: %s", got, test.want, stderr.String())
			}
		})
	}
}
