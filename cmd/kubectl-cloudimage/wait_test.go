package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

func condition(image *v1alpha1.CloudImage, kind string, status metav1.ConditionStatus, reason string) {
	meta.SetStatusCondition(&image.Status.Conditions, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: "it says so"})
}

func warm(i *v1alpha1.CloudImage) {
	condition(i, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonWarmed)
}

// TestRetryReturnsOnceItIsTakenUp: what waits for Ready after it must not take that of the last rollout.
func TestRetryReturnsOnceItIsTakenUp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		manager func(int, *v1alpha1.CloudImage) error
		takes   time.Duration
		want    string // the error
	}{
		"at once":    {handle(2), 0, ""},
		"later":      {handle(7), 5 * lookEvery, ""},
		"never":      {nil, takeUpFor, "does it run?"},
		"not anyhow": {func(int, *v1alpha1.CloudImage) error { return errors.New("no route") }, 0, "no route"},
		"with an API server that is away for a while": {func(read int, i *v1alpha1.CloudImage) error {
			if read == 3 || read == 4 {
				return errors.New("no route")
			}
			return handle(5)(read, i)
		}, 3 * lookEvery, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &oneImage{image: image(warm), manager: tt.manager}
				began := time.Now()
				err := retry(t.Context(), server, "debian", &bytes.Buffer{})
				if took := time.Since(began); (err != nil) != (tt.want != "") || (err != nil && !strings.Contains(err.Error(), tt.want)) || took != tt.takes {
					t.Errorf("after %s: %v; want %q after %s", took, err, tt.want, tt.takes)
				}
				if handled := server.image.Status.LastHandledRequestedAt; err == nil && (handled == "" || handled != server.image.Annotations[v1alpha1.RequestedAtAnnotation]) {
					t.Errorf("it returned with %q handled of %v", handled, server.image.Annotations)
				}
			})
		})
	}
}

func TestWait(t *testing.T) {
	t.Parallel()
	requested := func(i *v1alpha1.CloudImage) {
		warm(i)
		i.Annotations = map[string]string{v1alpha1.RequestedAtAnnotation: "now"}
	}
	for name, tt := range map[string]struct {
		image   func(*v1alpha1.CloudImage)
		manager func(int, *v1alpha1.CloudImage) error
		reads   int
		want    string // printed, or the error
	}{
		"ready":                    {warm, nil, 1, "debian is ready: Warmed: it says so"},
		"ready before the request": {requested, handle(3), 3, "is ready"},
		"ready before the edit": {func(i *v1alpha1.CloudImage) { warm(i); i.Generation++ }, func(read int, i *v1alpha1.CloudImage) error {
			if read == 4 {
				i.Status.ObservedGeneration++
			}
			return nil
		}, 4, "is ready"},
		"stopped before the request": {func(i *v1alpha1.CloudImage) {
			requested(i)
			condition(i, v1alpha1.ConditionStalled, metav1.ConditionTrue, "NotFound")
		}, nil, 61, "not within 1m0s: the manager has not looked at it yet"},
		"stopped": {func(i *v1alpha1.CloudImage) {
			condition(i, v1alpha1.ConditionReady, metav1.ConditionFalse, "NotFound")
			condition(i, v1alpha1.ConditionStalled, metav1.ConditionTrue, "NotFound")
		}, nil, 1, "has stopped: NotFound"},
		"never": {nil, nil, 61, "not within 1m0s: Warming: 1 of 5 nodes ready"},
		"a request of any length": {func(i *v1alpha1.CloudImage) {
			requested(i)
			i.Annotations[v1alpha1.RequestedAtAnnotation] = strings.Repeat("ü", 300)
			i.Status.LastHandledRequestedAt = strings.Repeat("ü", 126) + "…"
		}, nil, 1, "is ready"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &oneImage{image: image(tt.image), manager: tt.manager}
				var out bytes.Buffer
				err := waitFor(t.Context(), server, "debian", time.Minute, &out)
				text := out.String()
				if err != nil {
					text += err.Error()
				}
				if !strings.Contains(text, tt.want) || (err == nil) != strings.Contains(tt.want, "is ready") || server.reads < tt.reads-1 || server.reads > tt.reads {
					t.Errorf("after %d reads, want %d: %q, want %q", server.reads, tt.reads, text, tt.want)
				}
			})
		})
	}
}
