package system

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
	"github.com/cloudimage-dev/cloudimage-operator/test/origin"
)

// TestEncryptedImage: that an image is encrypted is in the report of the node and in the
// status of the image, and in neither if it is not.
func TestEncryptedImage(t *testing.T) {
	t.Parallel()
	g := newGroup(t, "encrypted", 1)
	plain, luks := g.serve(t, 2*mib, 1, origin.File{}), g.serve(t, 2*mib, 2, origin.File{})
	volume := append([]byte("LUKS\xba\xbe\x00\x02"), make([]byte, 2*mib-8)...)
	if err := os.WriteFile(luks.Path, volume, 0o600); err != nil { // instead of what was there
		t.Fatal(err)
	}
	luks.digest = fmt.Sprintf("sha256:%x", sha256.Sum256(volume))
	for name, tt := range map[string]struct {
		file *file
		want v1alpha1.ImageEncryption
	}{"encrypted-not": {plain, ""}, "encrypted-luks": {luks, v1alpha1.EncryptionLUKS}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g.apply(t, name, tt.file, nil)
			eventually(t, "the image is Ready and says how it is encrypted", func(ctx context.Context) error {
				var image v1alpha1.CloudImage
				if err := g.client.Get(ctx, client.ObjectKey{Name: name}, &image); err != nil {
					return err
				}
				if image.Status.Nodes.Ready != 1 || image.Status.Encryption != tt.want {
					return fmt.Errorf("%d nodes are ready, encryption is %q", image.Status.Nodes.Ready, image.Status.Encryption)
				}
				return nil
			})
		})
	}
}
