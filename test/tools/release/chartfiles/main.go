// Command chartfiles writes what the chart does not say itself: CustomResourceDefinitions, RBAC, the admission policy and the flow
// schema, which it takes from config/, and its README, which is made from the comments in values.yaml.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

func main() {
	repository := "."
	if len(os.Args) == 2 {
		repository = os.Args[1]
	}
	if err := write(repository); err != nil {
		fmt.Fprintln(os.Stderr, "chartfiles:", err)
		os.Exit(1)
	}
}

// write is safe to repeat: the same sources make the same files.
func write(repository string) error {
	chart := filepath.Join(repository, "charts", "cloudimage-operator")
	crds, err := filepath.Glob(filepath.Join(repository, "config", "crd", "bases", "*.yaml"))
	if err != nil {
		return fmt.Errorf("list the CustomResourceDefinitions: %w", err)
	}
	access, err := accessFiles(filepath.Join(repository, "config", "rbac"))
	if err != nil {
		return err
	}
	return errors.Join(
		copyInto(filepath.Join(chart, "files", "crds"), crds),
		copyInto(filepath.Join(chart, "files", "rbac"), access),
		copyInto(filepath.Join(chart, "files", "flow-control"), []string{filepath.Join(repository, "config", "flow-control", "agent_reports.yaml")}),
		writeReadme(chart),
	)
}

// accessFiles are those of the kustomization, but for the namespaces, which Helm and the chart make themselves.
func accessFiles(dir string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read what config/rbac holds: %w", err)
	}
	var kustomization struct{ Resources []string }
	if err := yaml.Unmarshal(data, &kustomization); err != nil {
		return nil, fmt.Errorf("parse what config/rbac holds: %w", err)
	}
	var files []string
	for _, name := range kustomization.Resources {
		if name != "namespaces.yaml" {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files, nil
}

// copyInto makes a folder hold exactly these files.
func copyInto(dir string, files []string) error {
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return fmt.Errorf("empty %s: %w", dir, err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read what the chart takes over: %w", err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), data, 0o644); err != nil {
			return fmt.Errorf("write what the chart takes over: %w", err)
		}
	}
	return nil
}
