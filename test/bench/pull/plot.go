package main

import (
	"fmt"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// plotMost is where the axis ends: beyond it the table tells how long a tool took, and nobody would see the others.
const plotMost = 4.5

// plot draws, for each scenario, every tool's time over the least possible: 1 cannot be beaten.
func (r *results) plot(path string) error {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("Time to a verified file ÷ the least possible (cut off at %g)", plotMost)
	p.Y.Label.Text = "T / T*"
	p.Legend.Top, p.Legend.Padding = true, vg.Millimeter
	var names []string
	for _, s := range scenarios() {
		if _, ok := r.terms[s.name]; ok {
			names = append(names, s.name)
		}
	}
	p.NominalX(names...)
	const width = vg.Length(8)
	all := tools("")
	for i, t := range all {
		values := make(plotter.Values, len(names))
		for j, name := range names {
			if row, ok := r.row(name, t.name); ok {
				values[j] = 1 / r.score(row)
			}
		}
		bars, err := plotter.NewBarChart(values, width)
		if err != nil {
			return fmt.Errorf("plot the times: %w", err)
		}
		bars.Color, bars.LineStyle.Width = plotutil.Color(i), 0
		bars.Offset = width * (vg.Length(i) - vg.Length(len(all)-1)/2)
		p.Add(bars)
		p.Legend.Add(t.name, bars)
	}
	p.Y.Min, p.Y.Max = 0, plotMost
	p.X.Max += 1.5 // room for the legend
	if err := p.Save(vg.Length(len(names)+3)*width*vg.Length(len(all)+2), 10*vg.Centimeter, path); err != nil {
		return fmt.Errorf("plot the times: %w", err)
	}
	return nil
}
