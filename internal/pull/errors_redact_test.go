package pull

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

func TestErrorRedactsItsCauses(t *testing.T) {
	t.Parallel()
	cause := &url.Error{Op: "Get", URL: "https://u:SECRET@h/p?token=SECRET#SECRET", Err: errors.New("refused")}
	err := failWith(SourceUnavailable, cause, "ask http://h/?SECRET")
	if text := err.Error(); strings.Contains(text, "SECRET") || !strings.Contains(text, "https://h/p") {
		t.Errorf("Error() = %q", text)
	}
}
