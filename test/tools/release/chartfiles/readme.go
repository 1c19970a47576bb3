package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// marker begins the comment that describes a value.
const marker = "# -- "

// tableHead is the line below which README.md is made from values.yaml.
const tableHead = "## Values\n"

// writeReadme replaces the table of values in the chart's README.
func writeReadme(chart string) error {
	path := filepath.Join(chart, "README.md")
	readme, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the chart's README: %w", err)
	}
	text, _, found := strings.Cut(string(readme), tableHead)
	if !found {
		return fmt.Errorf("find the line %q in %s", strings.TrimSpace(tableHead), path)
	}
	values, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		return fmt.Errorf("read the values: %w", err)
	}
	table, err := valuesTable(values)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text+tableHead+"\n"+table), 0o644)
}

// valuesTable is a table of every value that has a description. A value without one is an error, unless it only holds others.
func valuesTable(values []byte) (string, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(values, &document); err != nil {
		return "", fmt.Errorf("parse the values: %w", err)
	}
	var out bytes.Buffer
	out.WriteString("| value | default | what it does |\n|---|---|---|\n")
	if err := rows(&out, "", document.Content[0]); err != nil {
		return "", err
	}
	return out.String(), nil
}

func rows(out *bytes.Buffer, prefix string, mapping *yaml.Node) error {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		path := prefix + key.Value
		description := describe(key.HeadComment)
		switch {
		case description != "":
			var plain any
			if err := value.Decode(&plain); err != nil {
				return fmt.Errorf("read the value %s: %w", path, err)
			}
			text, err := json.Marshal(plain)
			if err != nil {
				return fmt.Errorf("write the value %s: %w", path, err)
			}
			fmt.Fprintf(out, "| `%s` | `%s` | %s |\n", path, text, description)
		case value.Kind == yaml.MappingNode && len(value.Content) > 0:
			if err := rows(out, path+".", value); err != nil {
				return err
			}
		default:
			return fmt.Errorf("the value %s has no comment that begins with %q", path, marker)
		}
	}
	return nil
}

// describe joins the lines of a comment into one.
func describe(comment string) string {
	_, text, found := strings.Cut(comment, marker)
	if !found {
		return ""
	}
	return strings.ReplaceAll(text, "\n# ", " ")
}
