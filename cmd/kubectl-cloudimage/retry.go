package main

import (
	"context"
	"fmt"
	"io"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// retry asks for a new rollout of the same spec, and returns once the status speaks of it: what waits for Ready after that does not take
// an older one. Nodes that hold bytes of its digest adopt them and fetch nothing.
func retry(ctx context.Context, c client.Client, name string, w io.Writer) error {
	image, err := getImage(ctx, c, name)
	if err != nil {
		return err
	}
	before := image.DeepCopy()
	metav1.SetMetaDataAnnotation(&image.ObjectMeta, v1alpha1.RequestedAtAnnotation, time.Now().UTC().Format(time.RFC3339Nano))
	if err := c.Patch(ctx, image, client.MergeFrom(before), client.FieldOwner("kubectl-cloudimage")); err != nil {
		return fmt.Errorf("set the annotation %s: %w", v1alpha1.RequestedAtAnnotation, err)
	}
	err = look(ctx, c, name, takeUpFor, func(now *v1alpha1.CloudImage) (bool, error) {
		if !takenUp(now) {
			return false, errLeftBehind
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("the request is written, and the manager begins with it once it looks: %w", err)
	}
	held := "nodes that hold its bytes keep them"
	if image.Spec.Digest == "" {
		held = "its spec gives no digest, so that one node downloads it again to find that"
	}
	fmt.Fprintf(w, "%s is rolled out again; %s.\nFollow it with: kubectl cloudimage watch %s\n", name, held, name)
	if image.Spec.Suspend {
		fmt.Fprintln(w, "Nothing will be pulled while spec.suspend is true.")
	}
	return nil
}
