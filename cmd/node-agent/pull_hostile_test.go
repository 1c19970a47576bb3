package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
)

// TestPullPrintsErrorsAsText: an error may quote a server's certificate, and paths of the store.
func TestPullPrintsErrorsAsText(t *testing.T) {
	t.Parallel()
	for _, json := range []bool{false, true} {
		var out bytes.Buffer
		code := printFailure(pullConfig{json: json}, pull.Result{}, errors.New("\x1b[2J\x1b]0;owned\a\nforged\u009b\u202e"), &out, &out)
		text := strings.TrimSuffix(out.String(), "\n")
		if at := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }); at >= 0 {
			t.Errorf("%q is printed in %q", text[at:min(len(text), at+4)], text)
		}
		if code != pullFailed || !strings.Contains(text, `\n`) {
			t.Errorf("exit code %d: %s", code, text)
		}
	}
}
