package main

import (
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// drawStat writes the last value in large letters, over a small curve of all of them.
func (p panel) drawStat(box draw.Canvas, begin, end time.Time) {
	const size, faint = vg.Length(20), 15
	one := p.lines[0]
	last := one.points[len(one.points)-1].Y
	chart := plot.New()
	chart.HideAxes()
	chart.BackgroundColor = nil
	chart.X.Min, chart.X.Max = float64(begin.Unix()), float64(end.Unix())
	chart.Y.Min, chart.Y.Max = 0, ceiling(p.lines)
	for _, run := range runs(one.points) {
		chart.Add(area(run, nil, translucent(p.ink(0), faint)), curve(run, p.ink(0)))
	}
	chart.Draw(draw.Crop(box, 0, 0, 0, -size-small))
	write(box, vg.Point{X: box.Min.X, Y: box.Max.Y - size}, size, p.ink(0), format(last, p.FieldConfig.Defaults.Unit))
}
