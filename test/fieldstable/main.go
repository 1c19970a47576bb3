// Command fieldstable writes docs/fields.md: every field of the API, as the CustomResourceDefinitions tell it.
package main

import (
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "Usage: fieldstable PAGE CRD...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "fieldstable:", err)
		os.Exit(1)
	}
}

const introduction = `# Every field

Written by ` + "`make generate`" + ` from the types in ` + "`api/v1alpha1`" + `; ` + "`kubectl explain cloudimage.spec`" + ` tells the same of
the version that a cluster runs. *Slanted* is what the API server answers where a value is refused. [Concepts](concepts.md)
says how the objects work together.
`

func run(page string, paths []string) error {
	var text strings.Builder
	text.WriteString(introduction)
	for _, path := range paths {
		definition, err := read(path)
		if err != nil {
			return err
		}
		definition.write(&text)
	}
	return os.WriteFile(page, []byte(text.String()), 0o644)
}

// definition is what the page needs of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Group string `json:"group"`
		Scope string `json:"scope"`
		Names struct {
			Kind       string   `json:"kind"`
			ShortNames []string `json:"shortNames"`
		} `json:"names"`
		Versions []struct {
			Name   string `json:"name"`
			Schema struct {
				Root schema `json:"openAPIV3Schema"`
			} `json:"schema"`
		} `json:"versions"`
	} `json:"spec"`
}

func read(path string) (definition, error) {
	var d definition
	data, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(data, &d)
	}
	if err != nil {
		return d, fmt.Errorf("read a definition: %w", err)
	}
	return d, nil
}

func (d definition) write(text *strings.Builder) {
	for _, version := range d.Spec.Versions {
		root := version.Schema.Root
		fmt.Fprintf(text, "\n## %s\n\n`%s/%s`, for `kubectl` also `%s`. Scope: %s. %s\n",
			d.Spec.Names.Kind, d.Spec.Group, version.Name, strings.Join(d.Spec.Names.ShortNames, "`, `"), d.Spec.Scope, oneLine(root.Description))
		for _, part := range []string{"spec", "status"} {
			fmt.Fprintf(text, "\n### %s of a %s\n\n| field | type | default | |\n|---|---|---|---|\n", part, d.Spec.Names.Kind)
			for _, f := range root.Properties[part].fields(part) {
				fmt.Fprintf(text, "| `%s` | %s | %s | %s |\n", f.path, f.kind, f.fallback, f.text)
			}
		}
	}
}
