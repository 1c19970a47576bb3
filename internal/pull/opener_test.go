package pull

import (
	"errors"
	"testing"
	"time"
)

// TestOpener goes through failures of the first request, one after another, each a
// second after the one before.
func TestOpener(t *testing.T) {
	t.Parallel()
	contradiction := func() error { return contradict("another range") }
	throttled := func() error { return fail(SourceThrottled, "503") }
	ofRange := func(kind Reason) func() error {
		return func() error {
			e := fail(kind, "refused")
			e.aboutRange = true
			return e
		}
	}
	failing, refusing := ofRange(SourceUnavailable), ofRange(InvalidSource)
	repeat := func(n int, err func() error) (all []func() error) {
		for range n {
			all = append(all, err)
		}
		return all
	}
	for name, tt := range map[string]struct {
		patience time.Duration // default 30 s
		errs     []func() error
		plain    string // p for a request without Range that follows, r for one with it, . for none
	}{
		"503":                                   {0, repeat(3, throttled), "rrr"},
		"503 for longer than it is waited":      {2 * time.Second, repeat(4, throttled), "rrr."},
		"503, asked once":                       {AskOnce, repeat(1, throttled), "."},
		"a range refused":                       {0, repeat(2, refusing), "p."},
		"a range refused, asked once":           {AskOnce, repeat(2, refusing), "p."},
		"5xx: one trial without Range":          {0, repeat(4, failing), "rprr"},
		"5xx, asked once: one trial":            {AskOnce, repeat(2, failing), "p."},
		"5xx that outlasts the patience":        {time.Second / 2, repeat(3, failing), "rp."},
		"contradictions":                        {0, repeat(3, contradiction), "rp."},
		"contradictions, then another failure":  {0, append(repeat(2, contradiction), throttled, throttled), "rppp"},
		"an error of this side":                 {0, repeat(1, func() error { return errors.New("no") }), "."},
		"a final failure of the kind to repeat": {0, repeat(1, func() error { e := fail(SourceUnavailable, "505"); e.final = true; return e }), "."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.patience == 0 {
				tt.patience = outagePatience
			}
			o := opener{failing: &outage{patience: tt.patience, delay: func(int, time.Duration) time.Duration { return time.Second }}}
			var got []byte
			now := time.Unix(1000, 0)
			for _, err := range tt.errs {
				switch _, again := o.after(err(), now, now.Add(time.Millisecond)); {
				case !again:
					got = append(got, '.')
				case o.stream:
					got = append(got, 'p')
				default:
					got = append(got, 'r')
				}
				now = now.Add(time.Second)
			}
			if string(got) != tt.plain {
				t.Errorf("%s, want %s", got, tt.plain)
			}
		})
	}
}
