package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	registry = "ghcr.io/cloudimage-dev"
	// user is the number that distroless images gave to "nonroot".
	user = "65532:65532"
)

// definition is one image; the Dockerfile says the same.
type definition struct{ program, image, description string }

// images are all that there are.
var images = []definition{
	{"manager", "cloudimage-manager", "Assigns cloud images to Kubernetes nodes"},
	{"node-agent", "cloudimage-node-agent", "Pulls cloud images onto the disk of a Kubernetes node"},
}

// labels are the annotations of the OCI image specification that do not change with the version.
func (d definition) labels() map[string]string {
	const prefix = "org.opencontainers.image."
	return map[string]string{
		prefix + "title":       d.image,
		prefix + "description": d.description,
		prefix + "source":      "https://github.com/cloudimage-dev/cloudimage-operator",
		prefix + "licenses":    "Apache-2.0",
	}
}

// image writes an image as one OCI archive of all platforms, for registries (unpacked: crane push), and one docker-archive a
// platform, for engines and `ctr images import`. Its digest goes to images.txt.
func (b *builder) image(ctx context.Context, d definition, platforms []platform) error {
	reference, err := name.NewTag(fmt.Sprintf("%s/%s:%s", registry, d.image, b.version))
	if err != nil {
		return fmt.Errorf("name the image: %w", err)
	}
	base := filepath.Join(b.out, d.image+"-"+b.version)
	index := mutate.IndexMediaType(oci.ImageIndex(empty.Index), types.OCIImageIndex)
	for _, p := range platforms {
		binary, err := b.binary(ctx, d.program, p)
		if err != nil {
			return err
		}
		image, err := b.platformImage(d, p, binary)
		if err != nil {
			return fmt.Errorf("make the image of %s for %s/%s: %w", d.program, p.os, p.architecture, err)
		}
		if err := tarball.WriteToFile(fmt.Sprintf("%s-%s-%s.docker.tar", base, p.os, p.architecture), reference, image); err != nil {
			return fmt.Errorf("write the docker-archive of %s: %w", d.program, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: oci.Descriptor{Platform: &oci.Platform{OS: p.os, Architecture: p.architecture}},
		})
	}
	if err := writeOCIArchive(base+".oci.tar", index, reference); err != nil {
		return err
	}
	return b.recordDigest(index, reference)
}

// platformImage makes two layers: the files of rootfs, which never change, and the program.
func (b *builder) platformImage(d definition, p platform, binary string) (oci.Image, error) {
	files, err := readTree(filepath.Join(b.repository, "test", "tools", "release", "rootfs"))
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("read the program: %w", err)
	}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	created := oci.Time{Time: b.source.created}
	for _, layer := range []struct {
		from  string
		files []file
	}{
		{"test/tools/release/rootfs", files},
		{"cmd/" + d.program, []file{{path: d.program, mode: 0o755, data: program}}},
	} {
		content, err := layerOf(layer.files)
		if err != nil {
			return nil, err
		}
		image, err = mutate.Append(image, mutate.Addendum{Layer: content, History: oci.History{Created: created, CreatedBy: layer.from}})
		if err != nil {
			return nil, fmt.Errorf("append a layer: %w", err)
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = p.os, p.architecture, created
	config.Config = oci.Config{User: user, Entrypoint: []string{"/" + d.program}, Labels: d.labels()}
	config.Config.Labels["org.opencontainers.image.version"] = b.version
	config.Config.Labels["org.opencontainers.image.revision"] = b.source.revision
	config.Config.Labels["org.opencontainers.image.created"] = b.source.created.Format(time.RFC3339)
	return mutate.ConfigFile(image, config)
}

// writeOCIArchive writes an OCI image layout as a tar. The annotation with the whole name is containerd's.
func writeOCIArchive(path string, index oci.ImageIndex, reference name.Tag) error {
	dir, err := os.MkdirTemp(filepath.Dir(path), ".layout-")
	if err != nil {
		return fmt.Errorf("make a folder for the image layout: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	at, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = at.AppendIndex(index, layout.WithAnnotations(map[string]string{
			"io.containerd.image.name":          reference.Name(),
			"org.opencontainers.image.ref.name": reference.TagStr(),
		}))
	}
	if err != nil {
		return fmt.Errorf("write the image layout: %w", err)
	}
	files, err := readTree(dir)
	if err != nil {
		return err
	}
	archive, err := tarOf(files)
	if err != nil {
		return err
	}
	return os.WriteFile(path, archive, 0o644)
}

// imageList is the file with the digests of the images.
const imageList = "images.txt"

// recordDigest adds a line to images.txt: what the chart's values image.digest and a registry will say.
func (b *builder) recordDigest(index oci.ImageIndex, reference name.Tag) error {
	digest, err := index.Digest()
	if err != nil {
		return fmt.Errorf("compute the digest of %s: %w", reference, err)
	}
	file, err := os.OpenFile(filepath.Join(b.out, imageList), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the list of images: %w", err)
	}
	_, err = fmt.Fprintf(file, "%s@%s\n", reference.Name(), digest)
	if closing := file.Close(); err == nil {
		err = closing
	}
	return err
}
