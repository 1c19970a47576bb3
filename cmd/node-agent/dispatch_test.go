package main

import (
	"strings"
	"testing"
)

func TestUnknownCommand(t *testing.T) {
	t.Parallel()
	var out, errs strings.Builder
	if code := dispatch(t.Context(), []string{"pul"}, &out, &errs); code != exitUsage || !strings.HasPrefix(errs.String(), `node-agent: unknown command "pul"`) {
		t.Errorf("code %d, %q", code, errs.String())
	}
}
