package controller

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// reasonsOfTheAPI reads the constants Reason… from the API's source, so that one
// that is added later is not forgotten.
func reasonsOfTheAPI(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../api/v1alpha1/constants.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		reasons[spec.Names[0].Name] = value
		return true
	})
	if len(reasons) < 20 {
		t.Fatalf("only %d reasons were found", len(reasons))
	}
	return reasons
}

func TestEveryReasonSaysWhatToDo(t *testing.T) {
	t.Parallel()
	nothingToDo := map[string]bool{v1alpha1.ReasonWarmed: true, v1alpha1.ReasonWarming: true, v1alpha1.ReasonStorageUsable: true}
	for name, reason := range reasonsOfTheAPI(t) {
		advice := adviceFor(reason)
		if (advice == "") != nothingToDo[reason] {
			t.Errorf("%s: the advice is %q", name, advice)
		}
		if advice != "" && (len(advice) > 150 || !strings.HasSuffix(advice, ".")) {
			t.Errorf("%s: the advice is no short sentence: %q has %d bytes", name, advice, len(advice))
		}
	}
	if advice := adviceFor(v1alpha1.ReasonUnsupportedContent); !strings.Contains(advice, "Raw takes") {
		t.Errorf("the advice names no format that takes a plain disk: %q", advice)
	}
}

// TestFailuresNameTheNodeAndTheNextStep takes each reason of a failed pull from a
// node's report to what a person reads.
func TestFailuresNameTheNodeAndTheNextStep(t *testing.T) {
	t.Parallel()
	for name, reason := range reasonsOfTheAPI(t) {
		if adviceForPull(reason) == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1)
			image := w.apply("debian", nil)
			w.settle()
			w.report("node-000", "debian", func(s *v1alpha1.ImageStatus) {
				s.State, s.Reason, s.Attempts = v1alpha1.StateFailed, reason, 1
				s.Message = "this is what happened: " + strings.Repeat("very long ", 20) + "."
			})
			w.settle()
			message := readyOf(&image.Status).Message
			for _, want := range []string{"node-000: " + reason + ": this is what happened: very long", adviceFor(reason)} {
				if !strings.Contains(message, want) {
					t.Errorf("the message does not say %q: %s", want, message)
				}
			}
			if got := image.Status.Failures[0].Message; len(got) > maxMessage || !strings.HasSuffix(got, adviceFor(reason)) {
				t.Errorf("the failure says %q", got)
			}
		})
	}
}

// TestNewerBuild: without spec.digest there is none to compare, and the file behind the URL has changed.
func TestNewerBuild(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	image := w.apply("debian", func(i *v1alpha1.CloudImage) { i.Spec.Digest = "" })
	w.settle()
	w.report(w.granted("debian")[0], "debian", ready(digestA))
	w.settle()
	w.report(w.granted("debian")[0], "debian", failed(v1alpha1.ReasonDigestMismatch))
	w.settle()
	for _, message := range []string{image.Status.Failures[0].Message, readyOf(&image.Status).Message} {
		if strings.Contains(message, "spec.digest") || !strings.Contains(message, "serves a newer build than the fleet holds: annotate "+v1alpha1.RequestedAtAnnotation) {
			t.Errorf("the message is %q", message)
		}
	}
	if advice := adviceOnPull(image, v1alpha1.ReasonDigestMismatch); len(advice) > 150 {
		t.Errorf("the advice has %d bytes", len(advice))
	}
}

// TestConditionsNameANodeAndTheNextStep is for what is no failure of one node.
func TestConditionsNameANodeAndTheNextStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	for i := range w.s.Nodes {
		w.s.Nodes[i].AgentReady = false
	}
	image := w.apply("debian", nil)
	w.settle()
	w.now = w.now.Add(unavailableAfter)
	w.settle()
	says := func(parts ...string) {
		t.Helper()
		for _, part := range parts {
			if message := readyOf(&image.Status).Message; part == "" || !strings.Contains(message, part) {
				t.Errorf("the message does not say %q: %s", part, message)
			}
		}
	}
	says("node-000", adviceFor(v1alpha1.ReasonWaitingForAgents))
	image.Spec.Suspend = true
	w.settle()
	says(adviceFor(v1alpha1.ReasonSuspended))
	image.Spec.Suspend = false
	w.s.Nodes[1].AgentReady = true
	w.settle()
	image.DeletionTimestamp = new(readyOf(&image.Status).LastTransitionTime)
	w.settle()
	says("node-001", adviceFor(v1alpha1.ReasonRemoving))
}

// TestWholeMessages: what the commonest mistakes are told fits beside the advice, to the last word that matters.
func TestWholeMessages(t *testing.T) {
	t.Parallel()
	for reason, message := range map[string]string{
		v1alpha1.ReasonPolicyDenied:       "Secret cloudimage-sources/debian does not name the host images.example.com in " + v1alpha1.AllowedHostsAnnotation,
		v1alpha1.ReasonUnsupportedContent: "the object has 8388611 bytes, which is no multiple of 512, so that it is no raw disk: check that the URL names the image itself, unpacked",
	} {
		if got := advise(message, adviceFor(reason)); !strings.HasPrefix(got, message) || len(got) > maxMessage {
			t.Errorf("%s: %q is cut", reason, got)
		}
	}
}
