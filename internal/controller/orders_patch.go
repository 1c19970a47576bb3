package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// operation is one of a JSON Patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// OrdersPatch replaces the orders of a node, if they are still those of the given
// object. It asks for the generation and not for the resourceVersion: reports of
// the agent change the latter, and in a rollout over thousands of nodes a quarter
// of all orders would be refused for the sake of reports that they do not depend on.
// Orders that take a slot back do: the node may have begun to make use of it.
func OrdersPatch(of *v1alpha1.NodeImageCache, images []v1alpha1.AssignedImage) (client.Patch, error) {
	if images == nil {
		images = []v1alpha1.AssignedImage{}
	}
	operations := []operation{
		{"test", "/metadata/uid", of.UID},
		{"test", "/metadata/generation", of.Generation},
		{"add", "/spec/images", images},
	}
	if takesBack(of, images) {
		operations = slices.Insert(operations, 0, operation{"test", "/metadata/resourceVersion", of.ResourceVersion})
	}
	data, err := json.Marshal(operations)
	if err != nil {
		return nil, fmt.Errorf("encode the orders of node %s: %w", of.Name, err)
	}
	return client.RawPatch(types.JSONPatchType, data), nil
}

// takesBack tells whether new orders hold an image that the node was told to pull.
func takesBack(of *v1alpha1.NodeImageCache, images []v1alpha1.AssignedImage) bool {
	return slices.ContainsFunc(images, func(image v1alpha1.AssignedImage) bool {
		before := orderIn(of, image.Name)
		return image.Action == v1alpha1.ActionHold && before != nil &&
			before.Action == v1alpha1.ActionPull && before.Revision == image.Revision
	})
}

// IsOutdated tells whether a write was refused because the object is not any more
// what the write was planned from. A JSON Patch whose test failed is answered as
// invalid, without naming the object or a cause as every other such answer of the
// API server does; those of admission webhooks say whose they are.
func IsOutdated(err error) bool {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return true
	}
	var answer apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &answer) {
		return false
	}
	status := answer.Status()
	return status.Reason == metav1.StatusReasonInvalid && !strings.HasPrefix(status.Message, "admission webhook") &&
		(status.Details == nil || (status.Details.Name == "" && len(status.Details.Causes) == 0))
}

// inDoubt tells whether a write that failed may have been carried out after all.
func inDoubt(err error) bool {
	var answer apierrors.APIStatus
	return !errors.As(err, &answer) || answer.Status().Code >= http.StatusInternalServerError
}
