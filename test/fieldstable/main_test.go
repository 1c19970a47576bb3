package main

import (
	"path/filepath"
	"testing"
)

// TestEveryFieldSaysWhatItIs keeps the page, and kubectl explain, free of fields that nobody described.
func TestEveryFieldSaysWhatItIs(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("../../config/crd/bases/*.yaml")
	if err != nil || len(paths) != 2 {
		t.Fatalf("%d definitions, %v", len(paths), err)
	}
	for _, path := range paths {
		d, err := read(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, version := range d.Spec.Versions {
			for _, part := range []string{"spec", "status"} {
				fields := version.Schema.Root.Properties[part].fields(part)
				if len(fields) < 5 {
					t.Errorf("%s: only %d fields in %s", d.Spec.Names.Kind, len(fields), part)
				}
				for _, f := range fields {
					if f.text == "" || f.kind == "" {
						t.Errorf("%s: %s is a %q and says %q", d.Spec.Names.Kind, f.path, f.kind, f.text)
					}
				}
			}
		}
	}
}

func TestRows(t *testing.T) {
	t.Parallel()
	small := int64(1)
	root := schema{
		Required: []string{"url"},
		Properties: map[string]schema{
			"url":   {Type: "string", MaxLength: &small, Description: "a\n|b"},
			"count": {Type: "integer", Minimum: &small, Default: []byte("8"), Description: "how many"},
			"list":  {Items: &schema{Type: "object", Properties: map[string]schema{"in": {Type: "boolean"}}}, MaxItems: &small},
			"nodes": {Type: "object", Properties: map[string]schema{"matchLabels": {}}, Default: []byte("{}")},
		},
	}
	want := []field{
		{"spec.count", "integer from 1", "`8`", "how many"},
		{"spec.list", "list of object, at most 1", "", ""},
		{"spec.list[].in", "boolean", "", ""},
		{"spec.nodes", "LabelSelector", "", ""},
		{"spec.url", "string, at most 1 characters", "required", `a \|b`},
	}
	got := root.fields("spec")
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d: %v", len(got), len(want), got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("row %d is %q, want %q", i, got[i], want[i])
		}
	}
}
