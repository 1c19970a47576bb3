package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestCommandLinesThatAreWrong(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":             "a command is missing",
		"state":        `unknown command "state"`,
		"status":       "status takes the name of one image",
		"why debian":   "why takes the names of a node and an image",
		"watch a b":    "watch takes the name of one image or none",
		"retry --nope": "unknown flag: --nope",
	} {
		var out, errs strings.Builder
		code := run(t.Context(), strings.Fields(line), &out, &errs)
		if code != exitUsage || out.Len() > 0 || !strings.Contains(errs.String(), want) || !strings.Contains(errs.String(), "--help") {
			t.Errorf("%q: code %d, %q, %q; want %q", line, code, out.String(), errs.String(), want)
		}
	}
}

// TestWithoutAKubeconfig is no parallel test: kubectl's environment names a kubeconfig, too.
func TestWithoutAKubeconfig(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "missing"))
	var out, errs strings.Builder
	if code := run(t.Context(), []string{"status", "debian"}, &out, &errs); code != exitError || !strings.Contains(errs.String(), "name one with --kubeconfig") {
		t.Errorf("code %d, %q", code, errs.String())
	}
}
