package main

import (
	"fmt"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// plot draws, for each scenario, every tool's time over the least possible: 1 cannot be beaten.
func (r *results) plot(path string) error {
	p := plot.New()
	p.Title.Text = "Time to a verified file (1 is the least possible)"
	p.Y.Label.Text = "T / T*"
	p.Y.Min = 0
	p.Legend.Top = true
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
	if err := p.Save(vg.Length(len(names)+2)*width*vg.Length(len(all)+2), 10*vg.Centimeter, path); err != nil {
		return fmt.Errorf("plot the times: %w", err)
	}
	return nil
}
