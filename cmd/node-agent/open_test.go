package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/cloudimage-dev/cloudimage-operator/internal/pull"
)

func TestStoreFlags(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		args   []string
		limits pull.Limits
		scrub  int64
		wrong  bool
	}{
		"defaults":          {nil, pull.Limits{MinFreePercent: 15}, 20_000_000, false},
		"quantities":        {[]string{"--max-store-size=100Gi", "--min-free-space=20G", "--scrub-bytes-per-second=50Mi"}, pull.Limits{MaxSize: 100 << 30, MinFree: 20_000_000_000}, 50 << 20, false},
		"nothing":           {[]string{"--min-free-space=0", "--scrub-bytes-per-second=0", "--scrub-interval=0"}, pull.Limits{}, 0, false},
		"a fraction":        {[]string{"--min-free-space=7.5%"}, pull.Limits{MinFreePercent: 7.5}, 20_000_000, false},
		"all of it":         {[]string{"--min-free-space=100%"}, pull.Limits{}, 0, true},
		"less than nothing": {[]string{"--min-free-space=-1%"}, pull.Limits{}, 0, true},
		"no number":         {[]string{"--min-free-space=NaN%"}, pull.Limits{}, 0, true},
		"no quantity":       {[]string{"--max-store-size=big"}, pull.Limits{}, 0, true},
		"a budget of zero":  {[]string{"--max-store-size=0"}, pull.Limits{}, 0, true},
		"back in time":      {[]string{"--scrub-interval=-1h"}, pull.Limits{}, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var o storeOptions
			flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
			o.addFlags(flags)
			if err := flags.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			if name == "defaults" && o.scrubInterval != 168*time.Hour {
				t.Errorf("the scrub's interval is %s", o.scrubInterval)
			}
			err := o.parse()
			if (err != nil) != tt.wrong {
				t.Fatalf("error %v, want one: %t", err, tt.wrong)
			}
			if tt.wrong {
				return
			}
			if diff := cmp.Diff(tt.limits, o.limits); diff != "" || o.scrubBytes != tt.scrub {
				t.Errorf("%d bytes per second, %s", o.scrubBytes, diff)
			}
		})
	}
}
