package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
)

// boundedLabels take their values from lists in the code.
var boundedLabels = []string{"reason", "resource", "result", "state"}

func TestMetricsAreWellNamed(t *testing.T) {
	t.Parallel()
	for name, register := range map[string]func(prometheus.Registerer){
		"agent":   func(r prometheus.Registerer) { controller.NewAgentMetrics(r) },
		"manager": ofManager,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			families, err := describe(register)
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

var nameOfMetric = regexp.MustCompile(`cloudimage_[a-z_]+[a-z]`)

// TestAlertsAndDashboardUseMetrics: a query for a metric that is not there is silent for ever.
func TestAlertsAndDashboardUseMetrics(t *testing.T) {
	t.Parallel()
	families, err := describe(func(r prometheus.Registerer) {
		controller.NewAgentMetrics(r)
		ofManager(r)
	})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, family := range families {
		known[family.GetName()] = true
		if family.GetType() == dto.MetricType_HISTOGRAM {
			known[family.GetName()+"_bucket"], known[family.GetName()+"_count"] = true, true
		}
	}
	for _, name := range []string{"alerts.yaml", "dashboard.json"} {
		data, err := os.ReadFile("../../charts/cloudimage-operator/files/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for _, used := range nameOfMetric.FindAllString(string(data), -1) {
			if !known[used] {
				t.Errorf("%s asks for %s, which nothing serves", name, used)
			}
		}
	}
}
