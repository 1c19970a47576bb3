package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// chart packs the chart with the release's version. Helm's own packing stamps the time of day.
func (b *builder) chart(dir string) error {
	files, err := readTree(dir)
	if err != nil {
		return err
	}
	for i := range files {
		if files[i].path == "Chart.yaml" {
			files[i].data = b.stampChart(files[i].data)
		}
		files[i].path = "cloudimage-operator/" + files[i].path
	}
	archive, err := tarOf(files)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(archive); err != nil {
		return fmt.Errorf("compress the chart: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("compress the chart: %w", err)
	}
	name := fmt.Sprintf("cloudimage-operator-%s.tgz", strings.TrimPrefix(b.version, "v"))
	return os.WriteFile(filepath.Join(b.out, name), packed.Bytes(), 0o644)
}

var (
	chartVersion = regexp.MustCompile(`(?m)^version: .*$`)
	appVersion   = regexp.MustCompile(`(?m)^appVersion: .*$`)
)

func (b *builder) stampChart(data []byte) []byte {
	data = chartVersion.ReplaceAll(data, []byte("version: "+strings.TrimPrefix(b.version, "v")))
	return appVersion.ReplaceAll(data, []byte("appVersion: "+b.version))
}

// ownImage is a reference to one of the project's images in a manifest.
var ownImage = regexp.MustCompile(`(image: ` + regexp.QuoteMeta(registry) + `/[a-z-]+):\S+`)

// manifest writes install.yaml: what kustomize makes of config/default, with the release's images.
func (b *builder) manifest(dir string) error {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return fmt.Errorf("build %s: %w", dir, err)
	}
	rendered, err := resources.AsYaml()
	if err != nil {
		return fmt.Errorf("write the manifest: %w", err)
	}
	rendered = ownImage.ReplaceAll(rendered, []byte("${1}:"+b.version))
	return os.WriteFile(filepath.Join(b.out, "install.yaml"), rendered, 0o644)
}
