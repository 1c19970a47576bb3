package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// oneImage is an API server with one CloudImage, which keeps what it is asked to patch, and carries it out.
type oneImage struct {
	client.Client

	image *v1alpha1.CloudImage
	patch []byte
	reads int
	// manager changes the image before each read, which it is told the number of.
	manager func(read int, image *v1alpha1.CloudImage) error
}

func (o *oneImage) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	image, ok := into.(*v1alpha1.CloudImage)
	switch {
	case !ok:
		return fmt.Errorf("unexpected %T", into)
	case key.Name != o.image.Name:
		return apierrors.NewNotFound(schema.GroupResource{Resource: "cloudimages"}, key.Name)
	}
	o.reads++
	if o.manager != nil {
		if err := o.manager(o.reads, o.image); err != nil {
			return err
		}
	}
	o.image.DeepCopyInto(image)
	return nil
}

func (o *oneImage) Patch(_ context.Context, object client.Object, patch client.Patch, _ ...client.PatchOption) (err error) {
	o.patch, err = patch.Data(object)
	o.image.Annotations = object.GetAnnotations()
	return err
}

// handle is a manager that takes a request up by a read.
func handle(by int) func(int, *v1alpha1.CloudImage) error {
	return func(read int, image *v1alpha1.CloudImage) error {
		if read >= by {
			image.Status.LastHandledRequestedAt = image.Annotations[v1alpha1.RequestedAtAnnotation]
		}
		return nil
	}
}

func TestRetryAsksForANewRollout(t *testing.T) {
	t.Parallel()
	const before = "2026-01-02T03:04:05Z"
	for name, suspended := range map[string]bool{"running": false, "suspended": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := &oneImage{manager: handle(2), image: image(func(i *v1alpha1.CloudImage) {
				i.Spec.Suspend = suspended
				i.Annotations = map[string]string{v1alpha1.RequestedAtAnnotation: before, "team": "vms"}
			})}
			var out bytes.Buffer
			if err := retry(t.Context(), server, "debian", &out); err != nil {
				t.Fatal(err)
			}
			var patch map[string]map[string]map[string]string // the annotation and nothing else
			if err := json.Unmarshal(server.patch, &patch); err != nil {
				t.Fatalf("%v: %s", err, server.patch)
			}
			annotations := patch["metadata"]["annotations"]
			if at := annotations[v1alpha1.RequestedAtAnnotation]; len(patch) != 1 || len(patch["metadata"]) != 1 || len(annotations) != 1 || at <= before {
				t.Errorf("the patch is %s", server.patch)
			}
			if got := strings.Contains(out.String(), "spec.suspend is true"); got != suspended {
				t.Errorf("it says %q", out.String())
			}
		})
	}
}

func TestRetryOfAnImageThatIsNotThere(t *testing.T) {
	t.Parallel()
	server := &oneImage{image: image(nil)}
	err := retry(t.Context(), server, "fedora", &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), `no CloudImage "fedora"`) || server.patch != nil {
		t.Errorf("error %v, patch %s", err, server.patch)
	}
}
