package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

const (
	// lookEvery is how often an image is read while somebody waits for it.
	lookEvery = time.Second
	// takeUpFor is how long the manager may take to see a request for a new rollout: longer than another one takes to become the leader.
	takeUpFor = 30 * time.Second
	// maxHandled is how much of a request a status repeats, in bytes.
	maxHandled = 256
)

// errLeftBehind is an image that the manager does not look at.
var errLeftBehind = errors.New("the manager has not looked at it yet; does it run?")

// takenUp tells whether an image's status speaks of its spec, and of the last request for a new rollout. To set that annotation changes
// no generation, so that a condition alone may be an older one's.
func takenUp(image *v1alpha1.CloudImage) bool {
	requested, handled := image.Annotations[v1alpha1.RequestedAtAnnotation], image.Status.LastHandledRequestedAt
	cut := len(requested) > maxHandled && handled != "" && strings.HasPrefix(requested, strings.TrimSuffix(handled, "…"))
	return image.Status.ObservedGeneration == image.Generation && (requested == handled || cut)
}

// waitFor prints what an image says once it is warm, and is an error once nothing goes on without somebody, or after the timeout, of
// which 0 is none.
func waitFor(ctx context.Context, c client.Reader, name string, timeout time.Duration, w io.Writer) error {
	return look(ctx, c, name, timeout, func(image *v1alpha1.CloudImage) (bool, error) {
		switch conditions := image.Status.Conditions; {
		case !takenUp(image):
			return false, errLeftBehind
		case meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionReady):
			return true, writeLines(w, []string{fmt.Sprintf("%s is ready: %s", name, summary(image))})
		case meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionStalled):
			return true, fmt.Errorf("%s has stopped: %s", name, summary(image))
		}
		return false, errors.New(summary(image))
	})
}

// look reads an image until a check says that this is the end, and returns the check's error then; earlier ones say what is waited for.
// An API server that has answered once may be away for a while.
func look(ctx context.Context, c client.Reader, name string, timeout time.Duration, check func(*v1alpha1.CloudImage) (bool, error)) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	answered := false
	var last error
	err := wait.PollUntilContextCancel(ctx, lookEvery, true, func(ctx context.Context) (bool, error) {
		image, err := getImage(ctx, c, name)
		if err != nil {
			if gone := errors.As(err, new(*missingError)); !answered || gone || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
				return false, err
			}
			last = err
			return false, nil
		}
		answered = true
		end, err := check(image)
		if !end {
			last = err
			return false, nil
		}
		return true, err
	})
	if wait.Interrupted(err) && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%s: not within %s: %w", name, timeout, last)
	}
	return err
}
