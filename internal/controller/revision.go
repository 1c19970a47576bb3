package controller

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// revisionOf identifies what an image's spec rolls out. Only source, digest,
// format, maxSize and the requested-at annotation count: editing the selector or
// a limit restarts nothing.
func revisionOf(image *v1alpha1.CloudImage) string {
	identity := struct {
		Source      v1alpha1.ImageSource
		Digest      string
		Format      v1alpha1.ImageFormat
		MaxSize     int64
		RequestedAt string
	}{
		image.Spec.Source, image.Spec.Digest, image.Spec.Format, image.Spec.MaxSize.Value(),
		image.Annotations[v1alpha1.RequestedAtAnnotation],
	}
	// Strings, integers and pointers to them: marshalling these cannot fail.
	text, _ := json.Marshal(identity) //nolint:errchkjson // see above
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// digestOf is the digest that every node must match for a revision: the spec's,
// else the one that was pinned for that very revision; empty while neither is known.
func digestOf(image *v1alpha1.CloudImage, revision string) string {
	if image.Spec.Digest != "" {
		return image.Spec.Digest
	}
	if image.Status.Revision == revision {
		return image.Status.Digest
	}
	return ""
}
