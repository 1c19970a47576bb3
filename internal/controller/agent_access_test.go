package controller

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// TestRetryOfAFailedPull: a terminal failure ends a revision, an order with a
// higher retry begins once more.
func TestRetryOfAFailedPull(t *testing.T) {
	t.Parallel()
	withImages(t, 1, func(im *Images, m *memoryStore) {
		m.fails = []error{reasonError(v1alpha1.ReasonForbidden), reasonError(v1alpha1.ReasonForbidden)}
		o := order("a", digestA, v1alpha1.ActionPull)
		step := func(want string, pulls int) {
			t.Helper()
			im.Sync([]v1alpha1.AssignedImage{o}, nil)
			synctest.Wait()
			time.Sleep(time.Hour)
			synctest.Wait()
			s := im.Statuses()[0]
			if got := string(s.State) + s.Reason; got != want || m.pulls != pulls || s.Retry != o.Retry {
				t.Errorf("%s after %d pulls, want %s after %d; retry %d of %d", got, m.pulls, want, pulls, s.Retry, o.Retry)
			}
		}
		step("FailedForbidden", 1)
		step("FailedForbidden", 1)
		o.Retry = 3
		step("FailedForbidden", 2)
		o.Action = v1alpha1.ActionHold // as while the agent is away
		im.Sync([]v1alpha1.AssignedImage{o}, nil)
		o.Action = v1alpha1.ActionPull
		step("FailedForbidden", 2)
		o.Retry = 4
		step("Ready", 3)
	})
}

// versions lets every source name something, whose version the returned function changes.
func versions(im *Images, m *memoryStore) (change func()) {
	version := "1"
	im.AccessVersion = func(context.Context, *v1alpha1.HTTPSource) (string, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return version, nil
	}
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		version = "2"
	}
}

// TestCredentialsThatChangeWhileHeld: a suspended image notices what is corrected meanwhile, at once or after it resumes.
func TestCredentialsThatChangeWhileHeld(t *testing.T) {
	t.Parallel()
	for name, looksBefore := range map[string]time.Duration{"after a look": 90 * time.Second, "before the first look": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withImages(t, 1, func(im *Images, m *memoryStore) {
				change := versions(im, m)
				m.fails = []error{reasonError(v1alpha1.ReasonForbidden)}
				o := order("a", digestA, v1alpha1.ActionPull)
				o.Source.HTTP = &v1alpha1.HTTPSource{URL: "https://images.example/a", SecretRef: &v1alpha1.ObjectReference{Name: "s"}}
				step := func(action v1alpha1.ImageAction, takes time.Duration) {
					o.Action = action
					im.Sync([]v1alpha1.AssignedImage{o}, nil)
					synctest.Wait()
					time.Sleep(takes)
				}
				step(v1alpha1.ActionPull, 10*time.Minute)
				step(v1alpha1.ActionHold, looksBefore)
				change()
				step(v1alpha1.ActionPull, 3*time.Minute)
				if diff := cmp.Diff([]string{"a FailedCredentialsChanged"}, state(im, m)); diff != "" || m.pulls != 1 {
					t.Errorf("%d pulls; %s", m.pulls, diff)
				}
				o.Retry = 1
				step(v1alpha1.ActionPull, 2*time.Minute)
				if got := im.Statuses()[0]; got.State != v1alpha1.StateReady || m.pulls != 2 {
					t.Errorf("after the retry: %s %s, %d pulls", got.State, got.Reason, m.pulls)
				}
			})
		})
	}
}

// TestChangedCredentialsAreReported: the node says that its Secret changed, and
// leaves it to the manager when to try again.
func TestChangedCredentialsAreReported(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		reason string
		named  bool
		want   []string // before and after the Secret changes
	}{
		"refused":       {v1alpha1.ReasonForbidden, true, []string{"a FailedForbidden", "a FailedCredentialsChanged"}},
		"not allowed":   {v1alpha1.ReasonPolicyDenied, true, []string{"a FailedPolicyDenied", "a FailedCredentialsChanged"}},
		"wrong bytes":   {v1alpha1.ReasonDigestMismatch, true, []string{"a FailedDigestMismatch", "a FailedDigestMismatch"}},
		"without names": {v1alpha1.ReasonForbidden, false, []string{"a FailedForbidden", "a FailedForbidden"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			withImages(t, 1, func(im *Images, m *memoryStore) {
				change := versions(im, m)
				m.fails = []error{reasonError(tt.reason)}
				o := order("a", digestA, v1alpha1.ActionPull)
				o.Source.HTTP = &v1alpha1.HTTPSource{URL: "https://images.example/a"}
				if tt.named {
					o.Source.HTTP.SecretRef = &v1alpha1.ObjectReference{Name: "s"}
				}
				im.Sync([]v1alpha1.AssignedImage{o}, nil)
				time.Sleep(10 * time.Minute)
				got := state(im, m)
				change()
				time.Sleep(2 * time.Minute)
				if diff := cmp.Diff(tt.want, append(got, state(im, m)...)); diff != "" || m.pulls != 1 {
					t.Errorf("%d pulls; %s", m.pulls, diff)
				}
			})
		})
	}
}
