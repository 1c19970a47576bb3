package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
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

// TestChartAsksForMetricsThatExist: an alert or a panel on a metric of another name stays silent for ever.
func TestChartAsksForMetricsThatExist(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, program := range programs() {
		families, err := describe(program.register)
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			known[family.GetName()] = true
			for _, part := range []string{"_bucket", "_count", "_sum"} {
				known[family.GetName()+part] = family.GetType() == dto.MetricType_HISTOGRAM
			}
		}
	}
	name := regexp.MustCompile(`\bcloudimage_[a-z_]+`)
	for _, file := range []string{"charts/cloudimage-operator/files/alerts.yaml", "charts/cloudimage-operator/files/dashboard.json", "test/observe/alerts_test.yaml"} {
		text, err := os.ReadFile(filepath.Join("..", "..", file))
		if err != nil {
			t.Fatal(err)
		}
		asked := name.FindAllString(string(text), -1)
		if len(asked) < 5 {
			t.Errorf("%s asks for %q only", file, asked)
		}
		for _, metric := range asked {
			if !known[metric] {
				t.Errorf("%s asks for %s, which no program has", file, metric)
			}
		}
	}
}
