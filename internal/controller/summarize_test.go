package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestConditions tables what a person reads: object in, verdict out.
func TestConditions(t *testing.T) {
	t.Parallel()
	pulling := func(s *v1alpha1.ImageStatus) { s.State = v1alpha1.StatePulling }
	for name, tt := range map[string]struct {
		nodes   int
		edit    func(*v1alpha1.CloudImage)
		reports map[string]func(*v1alpha1.ImageStatus)
		lost    []int
		want    string // "Ready status, reason, other conditions"
		message string
	}{
		"no node at all":  {nodes: 0, want: "True NoNodesSelected", message: "matches no node"},
		"just applied":    {nodes: 3, want: "Unknown Warming Reconciling", message: "0 of 3 nodes ready, 3 pending"},
		"one is pulling":  {nodes: 3, reports: map[string]func(*v1alpha1.ImageStatus){"node-001": pulling}, want: "Unknown Warming Reconciling", message: "1 pulling"},
		"all ready":       {nodes: 1, reports: map[string]func(*v1alpha1.ImageStatus){"node-000": ready(digestA)}, want: "True Warmed", message: "1 of 1 nodes ready"},
		"another digest":  {nodes: 1, reports: map[string]func(*v1alpha1.ImageStatus){"node-000": ready(digestB)}, want: "Unknown Warming Reconciling"},
		"no digest":       {nodes: 1, reports: map[string]func(*v1alpha1.ImageStatus){"node-000": ready("")}, want: "Unknown Warming Reconciling"},
		"a lost node":     {nodes: 2, lost: []int{1}, reports: map[string]func(*v1alpha1.ImageStatus){"node-000": ready(digestA)}, want: "True Warmed", message: "1 unavailable"},
		"every node lost": {nodes: 2, lost: []int{0, 1}, want: "Unknown WaitingForAgents Reconciling"},
		"one failed for good, one ready": {
			nodes: 2, reports: map[string]func(*v1alpha1.ImageStatus){"node-000": ready(digestA), "node-001": failed(v1alpha1.ReasonForbidden)},
			want: "False Forbidden Stalled", message: "node-001: Forbidden: it went wrong",
		},
		"one failed for good, one pulling": {
			nodes: 2, reports: map[string]func(*v1alpha1.ImageStatus){"node-000": pulling, "node-001": failed(v1alpha1.ReasonForbidden)},
			want: "Unknown Warming Reconciling", message: "node-001: Forbidden",
		},
		"one waits for room": {
			nodes: 2, reports: map[string]func(*v1alpha1.ImageStatus){"node-000": ready(digestA), "node-001": failed(v1alpha1.ReasonInsufficientSpace)},
			want: "Unknown InsufficientSpace Reconciling", message: "node-001: InsufficientSpace",
		},
		"one is tried again": {
			nodes: 1, reports: map[string]func(*v1alpha1.ImageStatus){"node-000": failed(v1alpha1.ReasonSourceUnavailable)},
			want: "Unknown Warming Reconciling", message: "node-000: SourceUnavailable",
		},
		"suspended": {nodes: 1, edit: func(i *v1alpha1.CloudImage) { i.Spec.Suspend = true }, want: "Unknown Suspended"},
		"suspended and warm": {
			nodes: 1, edit: func(i *v1alpha1.CloudImage) { i.Spec.Suspend = true },
			reports: map[string]func(*v1alpha1.ImageStatus){"node-000": ready(digestA)}, want: "True Warmed",
		},
		"selector of nonsense": {
			nodes: 1, edit: func(i *v1alpha1.CloudImage) {
				i.Spec.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}
			}, want: "False InvalidNodeSelector Stalled", message: "Near",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tt.nodes)
			image := w.apply("debian", tt.edit)
			w.pass()
			for node, edit := range tt.reports {
				if orderIn(w.s.Caches[node], "debian") == nil {
					t.Fatalf("%s has no order", node)
				}
				w.report(node, "debian", edit)
			}
			for _, i := range tt.lost {
				w.s.Nodes[i].AgentReady = false
			}
			w.settle()
			w.now = w.now.Add(unavailableAfter)
			w.settle()
			got := []string{string(readyOf(&image.Status).Status), readyOf(&image.Status).Reason}
			for _, c := range image.Status.Conditions {
				if c.Type != v1alpha1.ConditionReady {
					got = append(got, c.Type)
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
			if message := readyOf(&image.Status).Message; !strings.Contains(message, tt.message) {
				t.Errorf("message %q, want it to say %q", message, tt.message)
			}
		})
	}
}

func TestStatusIsStableWhileNothingChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	image := w.apply("debian", nil)
	w.settle()
	w.report("node-000", "debian", ready(digestA))
	w.settle()
	before := image.Status.DeepCopy()
	w.now = w.now.Add(time.Minute)
	w.settle()
	if diff := cmp.Diff(before, &image.Status); diff != "" {
		t.Errorf("time alone changes the status: %s", diff)
	}
}

// TestEncryptionIsWhatTwoNodesSay: agents of before say nothing of it, one node's word
// is no evidence beside another, and what was said of a revision stays true of it.
func TestEncryptionIsWhatTwoNodesSay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3)
	image := w.apply("debian", nil)
	w.settle()
	luks := func(s *v1alpha1.ImageStatus) { s.Encryption = v1alpha1.EncryptionLUKS }
	steps := []struct {
		name, node string
		report     []func(*v1alpha1.ImageStatus)
		want       v1alpha1.ImageEncryption
	}{
		{"the only node that is ready", "node-000", []func(*v1alpha1.ImageStatus){ready(digestA)}, ""},
		{"one of two", "node-001", []func(*v1alpha1.ImageStatus){ready(digestA), luks}, ""},
		{"two of three", "node-002", []func(*v1alpha1.ImageStatus){ready(digestA), luks}, v1alpha1.EncryptionLUKS},
		{"one is left of those that can tell", "node-001", []func(*v1alpha1.ImageStatus){failed(v1alpha1.ReasonStorageError)}, v1alpha1.EncryptionLUKS},
	}
	for _, step := range steps {
		for _, edit := range step.report {
			w.report(step.node, "debian", edit)
		}
		w.settle()
		if got := image.Status.Encryption; got != step.want {
			t.Errorf("%s: encryption is %q, want %q", step.name, got, step.want)
		}
	}
}

func TestFailuresAreAtMostTenAndTheWorstFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 14)
	image := w.apply("debian", nil)
	w.settle()
	for i, node := range w.s.Nodes {
		reason := v1alpha1.ReasonSourceUnavailable
		if i == 13 {
			reason = v1alpha1.ReasonForbidden
		}
		w.report(node.Name, "debian", failed(reason))
	}
	w.settle()
	if got := image.Status.Failures; len(got) != 10 || got[0].Node != "node-013" {
		t.Errorf("failures: %+v", got)
	}
}

// TestReportedTextIsEscaped: whatever an agent reports, a person reads it in a status and in an event as text.
func TestReportedTextIsEscaped(t *testing.T) {
	t.Parallel()
	for name, reason := range map[string]string{"with advice": v1alpha1.ReasonForbidden, "without": "FromAnotherVersion"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			image := w.apply("debian", nil)
			w.settle()
			before := image.Status
			w.report("node-000", "debian", func(s *v1alpha1.ImageStatus) {
				failed(reason)(s)
				s.Message = "\x1b[2J\nnode-001: Ready\u202e"
			})
			w.settle()
			texts := []string{image.Status.Failures[0].Message, readyOf(&image.Status).Message}
			for _, tr := range transitions(&before, &image.Status) {
				texts = append(texts, tr.message)
			}
			for _, text := range texts {
				if strings.ContainsAny(text, "\x1b\n\u202e") {
					t.Errorf("it says %q", text)
				}
			}
			if want := `\x1b[2J\nnode-001: Ready\u202e`; !strings.HasPrefix(texts[0], want) {
				t.Errorf("the failure is %q, want %q first", texts[0], want)
			}
		})
	}
}

func TestTransitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	var got []string
	step := func() {
		before := image.Status
		w.settle()
		for _, tr := range transitions(&before, &image.Status) {
			got = append(got, tr.kind+" "+tr.reason)
		}
	}
	step()
	w.report(w.granted("debian")[0], "debian", ready(digestA))
	step()
	w.report(w.granted("debian")[0], "debian", failed(v1alpha1.ReasonDigestMismatch))
	step()
	step()
	w.report(w.granted("debian")[0], "debian", ready(digestA))
	step()
	want := []string{
		"Normal RolloutStarted", "Normal DigestKnown", "Warning DigestMismatch", "Warning Stalled", "Normal Warmed",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestClip(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ in, want string }{
		"short":                 {"abc", "abc"},
		"exact":                 {strings.Repeat("a", 256), strings.Repeat("a", 256)},
		"long":                  {strings.Repeat("a", 257), strings.Repeat("a", 253) + "…"},
		"wide":                  {strings.Repeat("é", 200), strings.Repeat("é", 126) + "…"},
		"what a terminal obeys": {"a\x1b[2J\n\u009b\u202e", `a\x1b[2J\n\u009b\u202e`},
		"longer once escaped":   {strings.Repeat("\x1b", 100), strings.Repeat(`\x1b`, 63) + `\…`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := clip(tt.in); got != tt.want || len(got) > maxMessage {
				t.Errorf("clip gives %d bytes: %q", len(got), got)
			}
		})
	}
}

func TestFormatRate(t *testing.T) {
	t.Parallel()
	for rate, want := range map[int64]string{
		0: "0 B/s", 999: "999 B/s", 1536: "1.5 KiB/s", 412 << 20: "412 MiB/s", 5 << 29: "2.5 GiB/s", 1 << 60: "1048576 TiB/s",
	} {
		if got := formatRate(rate); got != want {
			t.Errorf("formatRate(%d) = %q, want %q", rate, got, want)
		}
	}
}

// TestRequestOfAnyLength: nobody checks an annotation, and the API server takes 256 characters of it in a status.
func TestRequestOfAnyLength(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) {
		i.Annotations = map[string]string{v1alpha1.RequestedAtAnnotation: strings.Repeat("ü", 300)}
	})
	w.settle()
	if got := image.Status.LastHandledRequestedAt; got == "" || len(got) > 256 {
		t.Errorf("%d bytes of the annotation are in the status", len(got))
	}
}

// TestTerminatingNodes leave what is counted, and Ready with them, but they are no proof that there is nothing to do.
func TestTerminatingNodes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		deleting, gone int // how many of three nodes, of which the first two are ready
		want           string
	}{
		"none":               {0, 0, "True Warmed 2/3"},
		"one":                {1, 0, "True Warmed 1/2"},
		"all but one":        {2, 0, "Unknown Warming 0/1"},
		"all":                {3, 0, "Unknown NodesTerminating 0/0"},
		"all but two gone":   {2, 2, "Unknown Warming 0/1"},
		"all, and two gone":  {3, 2, "Unknown NodesTerminating 0/0"},
		"all of them are no": {3, 3, "True NoNodesSelected 0/0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2)
			image := w.apply("debian", nil)
			w.warm()
			w.join("node-002", nil)
			w.settle()
			for i := range tt.deleting {
				w.s.Nodes[i].Deleting = true
			}
			w.settle()
			w.s.Nodes = w.s.Nodes[tt.gone:]
			w.settle()
			got := fmt.Sprintf("%s %s %d/%d", readyOf(&image.Status).Status, readyOf(&image.Status).Reason, image.Status.Nodes.Ready, image.Status.Nodes.Desired)
			if got != tt.want {
				t.Errorf("got %s, want %s: %s", got, tt.want, readyOf(&image.Status).Message)
			}
		})
	}
}
