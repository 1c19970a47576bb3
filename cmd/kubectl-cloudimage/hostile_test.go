package main

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// hostile clears a screen, names a window, forges a row of the table and reverses what follows.
const hostile = "\x1b[2J\x1b]0;owned\a\nforged   Ready   100 MiB\tx\r\u009b31m\u202e\u2066 end"

// TestHostileTextStaysText prints what a compromised node reports and what a server made it say.
func TestHostileTextStaysText(t *testing.T) {
	t.Parallel()
	report := v1alpha1.ImageStatus{State: v1alpha1.StateFailed, Reason: "A" + hostile, Message: hostile}
	failed := node("b", v1alpha1.ActionPull, report)
	failed.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionStorageReady, Status: metav1.ConditionFalse, Reason: hostile, Message: hostile}}
	held := node("c", v1alpha1.ActionPull, v1alpha1.ImageStatus{State: v1alpha1.StateReady, Digest: hostile})
	i := image(func(i *v1alpha1.CloudImage) {
		i.Spec.Source.HTTP.URL = "https://example.com/" + hostile
		i.Status.Digest, i.Status.Format, i.Status.Throughput = hostile, hostile, hostile
		i.Status.Conditions[0].Message, i.Status.Conditions[0].Reason = hostile, hostile
	})
	caches := []v1alpha1.NodeImageCache{failed, held, node("a-long-name", v1alpha1.ActionPull, v1alpha1.ImageStatus{})}
	warmed := i.DeepCopy()
	warmed.Status.Conditions[0].Status = metav1.ConditionTrue
	outputs := map[string]func(out *bytes.Buffer) error{
		"wait":   func(out *bytes.Buffer) error { return waitFor(t.Context(), &oneImage{image: warmed}, i.Name, 0, out) },
		"status": func(out *bytes.Buffer) error { return writeImage(out, i, rowsOf(i, caches, now), false) },
		"watch":  func(out *bytes.Buffer) error { return writeImages(out, []v1alpha1.CloudImage{*i, *image(nil)}) },
		"why, failed": func(out *bytes.Buffer) error {
			return writeLines(out, facts{name: "b", image: i, node: &corev1.Node{}, cache: &failed}.explain(now))
		},
		"why, ready": func(out *bytes.Buffer) error {
			return writeLines(out, facts{name: "c", image: i, node: &corev1.Node{}, cache: &held}.explain(now))
		},
		"why, not assigned": func(out *bytes.Buffer) error {
			return writeLines(out, facts{name: "d", image: i, node: &corev1.Node{}, cache: &v1alpha1.NodeImageCache{}}.explain(now))
		},
	}
	for name, write := range outputs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := write(&out); err != nil {
				t.Fatal(err)
			}
			text := out.String()
			if at := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && !unicode.IsGraphic(r) }); at >= 0 {
				t.Errorf("%q is printed in %q", text[at:min(len(text), at+4)], text)
			}
			if strings.Contains(text, "\nforged") || !strings.Contains(text, `\x1b[2J\x1b]0;owned\x07\nforged`) {
				t.Errorf("the text of a report is not escaped:\n%s", text)
			}
		})
	}
}

// TestHostileTextKeepsTheColumns: what stands beside escaped text stands where it does in every other row.
func TestHostileTextKeepsTheColumns(t *testing.T) {
	t.Parallel()
	hostileNode := row{node: "x\x1b[2J", state: stateFailed, reason: hostile}
	var out bytes.Buffer
	if err := writeRows(&out, []row{hostileNode, {node: "plain", state: stateFailed, reason: "NotFound"}}, true); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("two nodes are printed as\n%s", out.String())
	}
	var at []int
	for i, column := range []string{"STATE", stateFailed, stateFailed} {
		at = append(at, strings.Index(lines[i], column))
	}
	if at[0] != at[1] || at[0] != at[2] {
		t.Errorf("the second column begins at %v in\n%s", at, out.String())
	}
}

// TestNumbersThatCannotBe: every number of a report is read as one that can be.
func TestNumbersThatCannotBe(t *testing.T) {
	t.Parallel()
	percent, negative := regexp.MustCompile(`(-?\d+) %`), regexp.MustCompile(` -\d`)
	numbers := []int64{math.MinInt64, -1000, -1, 0, 1, 100 * mib, math.MaxInt64}
	for _, size := range numbers {
		for _, done := range numbers {
			for _, state := range []v1alpha1.ImageState{v1alpha1.StatePulling, v1alpha1.StateReady, v1alpha1.StateFailed} {
				report := pulling(done, done/2)
				report.State, report.SizeBytes, report.AverageBytesPerSecond = state, size, done
				report.Attempts, report.ResumedBytes = int32(max(math.MinInt32, min(done, math.MaxInt32))), size
				cache := node("a", v1alpha1.ActionPull, report)
				i := image(func(i *v1alpha1.CloudImage) {
					i.Status.SizeBytes, i.Status.VirtualSizeBytes = size, done
					i.Status.Nodes = v1alpha1.NodeCounts{Ready: report.Attempts, Desired: int32(max(math.MinInt32, min(size, math.MaxInt32)))}
				})
				var out bytes.Buffer
				if err := writeImage(&out, i, rowsOf(i, []v1alpha1.NodeImageCache{cache}, now), true); err != nil {
					t.Fatal(err)
				}
				if err := writeImages(&out, []v1alpha1.CloudImage{*i}); err != nil {
					t.Fatal(err)
				}
				for _, found := range percent.FindAllStringSubmatch(out.String(), -1) {
					if share, _ := strconv.Atoi(found[1]); share < 0 || share > 100 {
						t.Errorf("%d of %d bytes are %d %%", done, size, share)
					}
				}
				if negative.MatchString(out.String()) {
					t.Errorf("%d of %d bytes print a negative number:\n%s", done, size, out.String())
				}
			}
		}
	}
}

func TestParts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		done, whole int64
		want        int
	}{{50, 100, 50}, {1, 3, 33}, {-1, 100, 0}, {200, 100, 100}, {1, 0, 0}, {1, -1, 0}, {math.MaxInt64, math.MaxInt64, 100}, {math.MaxInt64 / 2, math.MaxInt64, 50}} {
		if diff := cmp.Diff(test.want, parts(100, test.done, test.whole)); diff != "" {
			t.Error(fmt.Sprintf("%d of %d:", test.done, test.whole), diff)
		}
	}
}
