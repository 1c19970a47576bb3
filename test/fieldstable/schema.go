package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// schema is what the page needs of an OpenAPI schema.
type schema struct {
	Description string            `json:"description"`
	Type        string            `json:"type"`
	Format      string            `json:"format"`
	Default     json.RawMessage   `json:"default"`
	Enum        []string          `json:"enum"`
	Properties  map[string]schema `json:"properties"`
	Required    []string          `json:"required"`
	Items       *schema           `json:"items"`
	Values      *schema           `json:"additionalProperties"`
	Minimum     *int64            `json:"minimum"`
	Maximum     *int64            `json:"maximum"`
	MaxLength   *int64            `json:"maxLength"`
	MaxItems    *int64            `json:"maxItems"`
	IntOrString bool              `json:"x-kubernetes-int-or-string"`
	Pattern     string            `json:"pattern"`
	Rules       []struct {
		Message string `json:"message"`
	} `json:"x-kubernetes-validations"`
}

// field is a row of a table, in Markdown.
type field struct{ path, kind, fallback, text string }

// fields are those below a schema, in the order of their paths, but not what Kubernetes defines.
func (s schema) fields(path string) []field {
	if s.Items != nil {
		return s.Items.fields(path + "[]")
	}
	if s.foreign() != "" {
		return nil
	}
	var all []field
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		child, at := s.Properties[name], path+"."+name
		f := field{path: at, kind: child.kind(), fallback: child.fallback(), text: child.text()}
		if slices.Contains(s.Required, name) {
			f.fallback = "required"
		}
		all = append(append(all, f), child.fields(at)...)
	}
	return all
}

// foreign names a type that is Kubernetes' own, and documented there.
func (s schema) foreign() string {
	_, labels := s.Properties["matchLabels"]
	_, transition := s.Properties["lastTransitionTime"]
	_, status := s.Properties["observedGeneration"]
	switch {
	case labels:
		return "LabelSelector"
	case transition && status:
		return "Condition"
	}
	return ""
}

// kind says what values there are.
func (s schema) kind() string {
	switch {
	case s.foreign() != "":
		return s.foreign()
	case s.Items != nil:
		return "list of " + s.Items.kind() + bound(", at most %d", s.MaxItems)
	case s.Values != nil:
		return "map to " + s.Values.kind()
	case len(s.Enum) > 0:
		return "`" + strings.Join(s.Enum, "`, `") + "`"
	case s.IntOrString && s.Pattern != "":
		return "quantity"
	case s.IntOrString:
		return "integer or string"
	case s.Format == "date-time":
		return "time"
	}
	return s.Type + bound(" from %d", s.Minimum) + bound(" to %d", s.Maximum) + bound(", at most %d characters", s.MaxLength)
}

func bound(format string, limit *int64) string {
	if limit == nil {
		return ""
	}
	return fmt.Sprintf(format, *limit)
}

// fallback is what an absent field is taken for. Objects have theirs below them.
func (s schema) fallback() string {
	if len(s.Default) == 0 || s.Default[0] == '{' {
		return ""
	}
	return "`" + strings.Trim(string(s.Default), `"`) + "`"
}

func (s schema) text() string {
	sentences := []string{oneLine(s.Description)}
	for _, rule := range s.Rules {
		sentences = append(sentences, "*"+oneLine(rule.Message)+".*")
	}
	return strings.Join(sentences, " ")
}

// oneLine makes a cell of a table of a text.
func oneLine(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}
