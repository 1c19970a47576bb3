package pull

import (
	"strings"
	"testing"
)

// TestAShortageSaysWhatToDo: the command line shows the same text as an image, and
// does not try again by itself.
func TestAShortageSaysWhatToDo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		shortage shortage
		say      string
	}{
		"a full disk":   {shortage{need: 5 << 30, available: 1 << 30, free: 4 << 30}, "remove images or make room"},
		"a full budget": {shortage{need: 5 << 30, used: 8 << 30, max: 10 << 30, budget: 3 << 30}, "remove images or raise the limit"},
	} {
		if text := tt.shortage.error(0).Error(); !strings.HasSuffix(text, tt.say) || strings.Contains(text, "by itself") {
			t.Errorf("%s: %q, want it to end with %q", name, text, tt.say)
		}
	}
}
