// Package observe looks at a release as its users do: it runs Debian's Prometheus with what the chart renders for it, and reads the
// Grafana dashboard.
package observe

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/prometheus/common/model"
)

// Dashboard is what this project uses of Grafana's JSON.
type Dashboard struct {
	Title  string
	Panels []Panel
}

// Panel is one picture of the dashboard.
type Panel struct {
	Type, Title, Description string
	GridPos                  Place
	FieldConfig              struct {
		Defaults  Field
		Overrides []Override
	}
	Targets []Target
}

// Place is where a panel is. The page is 24 units wide, a unit of height is Grafana's 30 pixels.
type Place struct{ X, Y, W, H int }

// Field says how the values of a panel are shown.
type Field struct {
	// Unit is Grafana's id of one: none, Bps, wps, s, bytes, percentunit.
	Unit   string
	Custom struct {
		// FillOpacity is in percent.
		FillOpacity float64
		Stacking    struct{ Mode string }
	}
}

// Stacked tells whether each series is drawn on top of the one before.
func (f Field) Stacked() bool { return f.Custom.Stacking.Mode == "normal" }

// Override changes how the series of one name is shown.
type Override struct {
	Matcher    struct{ ID, Options string }
	Properties []struct {
		ID    string
		Value struct{ FixedColor string }
	}
}

// Color is what the dashboard gives a series of that name; empty for any.
func (p Panel) Color(name string) string {
	for _, override := range p.FieldConfig.Overrides {
		for _, property := range override.Properties {
			if override.Matcher.ID == "byName" && override.Matcher.Options == name && property.ID == "color" {
				return property.Value.FixedColor
			}
		}
	}
	return ""
}

// Target is a query and the name of each series that it returns.
type Target struct{ Expr, LegendFormat string }

// ReadDashboard reads a file, and refuses one that has a panel without a query.
func ReadDashboard(path string) (Dashboard, error) {
	var d Dashboard
	data, err := os.ReadFile(path)
	if err != nil {
		return d, fmt.Errorf("read the dashboard: %w", err)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		return d, fmt.Errorf("read the dashboard %s: %w", path, err)
	}
	if len(d.Panels) == 0 {
		return d, errors.New("the dashboard has no panel")
	}
	for _, panel := range d.Panels {
		if len(panel.Targets) == 0 {
			return d, fmt.Errorf("the panel %q has no query", panel.Title)
		}
	}
	return d, nil
}

var placeholder = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// Legend is the name of a series: {{label}} stands for its value.
func (t Target) Legend(labels model.Metric) string {
	return strings.TrimSpace(placeholder.ReplaceAllStringFunc(t.LegendFormat, func(found string) string {
		return string(labels[model.LabelName(placeholder.FindStringSubmatch(found)[1])])
	}))
}
