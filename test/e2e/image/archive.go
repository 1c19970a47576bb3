// Package image packs programs into container images, as archives that containerd imports: one layer, no base image, no registry.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
)

// File is an executable in the image, or a link to one.
type File struct {
	// Path is that in the image, without a leading slash.
	Path string
	// Source is a file of this machine, LinkTo a path in the image; one of them is given.
	Source, LinkTo string
}

// Image is what an archive holds.
type Image struct {
	// Name is the image's reference with its tag.
	Name       string
	Files      []File
	Entrypoint []string
	Env        []string
}

// Write writes the image in the format of `docker save` (the image specification of Docker, version 1.2). Equal files make an equal
// archive.
func Write(path string, image Image) error {
	layer, err := layerOf(image.Files)
	if err != nil {
		return err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": image.Entrypoint, "Env": image.Env},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(layer)}},
	})
	if err != nil {
		return fmt.Errorf("encode the configuration of %s: %w", image.Name, err)
	}
	configName := digest(config) + ".json"
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": []string{image.Name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return fmt.Errorf("encode the manifest of %s: %w", image.Name, err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, part := range []struct {
		name string
		data []byte
	}{{configName, config}, {"layer.tar", layer}, {"manifest.json", manifest}} {
		if err := add(w, &tar.Header{Name: part.name, Mode: 0o644, Size: int64(len(part.data))}, part.data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("finish the archive of %s: %w", image.Name, err)
	}
	if err := os.WriteFile(path, archive.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write the archive of %s: %w", image.Name, err)
	}
	return nil
}

func layerOf(files []File) ([]byte, error) {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for _, file := range files {
		header := &tar.Header{Name: file.Path, Mode: 0o555}
		if file.LinkTo != "" {
			header.Typeflag, header.Linkname = tar.TypeSymlink, file.LinkTo
			if err := add(w, header, nil); err != nil {
				return nil, err
			}
			continue
		}
		data, err := os.ReadFile(file.Source)
		if err != nil {
			return nil, fmt.Errorf("read a program for an image: %w", err)
		}
		header.Size = int64(len(data))
		if err := add(w, header, data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("finish a layer: %w", err)
	}
	return layer.Bytes(), nil
}

func add(w *tar.Writer, header *tar.Header, data []byte) error {
	if err := w.WriteHeader(header); err != nil {
		return fmt.Errorf("add %s to an archive: %w", header.Name, err)
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("add %s to an archive: %w", header.Name, err)
	}
	return nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
