package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// boundedLabels take their values from lists in the code.
var boundedLabels = []string{"reason", "resource", "result", "state"}

func TestMetricsAreWellNamed(t *testing.T) {
	t.Parallel()
	for _, program := range programs() {
		t.Run(program.title, func(t *testing.T) {
			t.Parallel()
			families, err := describe(program.register)
			if err != nil {
				t.Fatal(err)
			}
			if len(families) < 5 {
				t.Errorf("only %d metrics were found", len(families))
			}
			problems, err := promlint.NewWithMetricFamilies(families).Lint()
			if err != nil {
				t.Fatal(err)
			}
			for _, problem := range problems {
				t.Errorf("%s: %s", problem.Metric, problem.Text)
			}
			for _, family := range families {
				if !strings.HasPrefix(family.GetName(), "cloudimage_") {
					t.Errorf("%s does not begin with cloudimage_", family.GetName())
				}
				for _, label := range family.GetMetric()[0].GetLabel() {
					if !slices.Contains(boundedLabels, label.GetName()) {
						t.Errorf("%s has the label %s: are its values bounded? Then list it here", family.GetName(), label.GetName())
					}
				}
			}
		})
	}
}
