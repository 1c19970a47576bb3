package controller

import (
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
func OrdersPatch(of *v1alpha1.NodeImageCache, images []v1alpha1.AssignedImage) (client.Patch, error) {
	if images == nil {
		images = []v1alpha1.AssignedImage{}
	}
	data, err := json.Marshal([]operation{
		{"test", "/metadata/uid", of.UID},
		{"test", "/metadata/generation", of.Generation},
		{"add", "/spec/images", images},
	})
	if err != nil {
		return nil, fmt.Errorf("encode the orders of node %s: %w", of.Name, err)
	}
	return client.RawPatch(types.JSONPatchType, data), nil
}

// IsOutdated tells whether a write was refused because the object is not any more
// what the write was planned from. A JSON Patch whose test failed is answered as
// invalid, without the field that an invalid object would be answered with.
func IsOutdated(err error) bool {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return true
	}
	var answer apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &answer) {
		return false
	}
	details := answer.Status().Details
	return details == nil || len(details.Causes) == 0
}
