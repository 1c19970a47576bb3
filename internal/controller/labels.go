package controller

import (
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// labelDigits is how many hexadecimal digits of the digest a node label shows.
const labelDigits = 12

// wantedLabels are the labels that a Node is to have: one an image that selects
// it and that its agent last reported as Ready with the digest of the current
// revision. An agent that is away does not unset them: the bytes lie there still.
func wantedLabels(node labels.Set, nodeUID string, cache *v1alpha1.NodeImageCache, images []v1alpha1.CloudImage) map[string]string {
	wanted := map[string]string{}
	if cache == nil || cache.Spec.NodeUID != nodeUID {
		return wanted
	}
	for i := range images {
		image := &images[i]
		status := statusIn(cache, image.Name)
		if status == nil || status.State != v1alpha1.StateReady || status.Digest == "" || status.Digest != image.Status.Digest ||
			status.Revision != image.Status.Revision || !image.DeletionTimestamp.IsZero() {
			continue
		}
		// A selector with a typing error keeps the orders, and so the labels.
		if selector, err := selectorOf(image); err == nil && !selector.Matches(node) {
			continue
		}
		wanted[v1alpha1.NodeLabelPrefix+image.Name] = labelOf(status.Digest)
	}
	return wanted
}

func labelOf(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return hex[:min(len(hex), labelDigits)]
}

// labelChanges are what to write into a Node's labels, nil where one is to go;
// empty if nothing changes. Only labels that look as this package writes them are
// taken away.
func labelChanges(have, wanted map[string]string) map[string]*string {
	changes := map[string]*string{}
	for key, value := range wanted {
		if have[key] != value {
			changes[key] = &value
		}
	}
	for key, value := range have {
		if _, keep := wanted[key]; !keep && IsImageLabel(key, value) {
			changes[key] = nil
		}
	}
	return changes
}

// IsImageLabel tells whether a Node's label looks as this package writes them.
func IsImageLabel(key, value string) bool {
	return strings.HasPrefix(key, v1alpha1.NodeLabelPrefix) && len(value) == labelDigits && strings.Trim(value, "0123456789abcdef") == ""
}
