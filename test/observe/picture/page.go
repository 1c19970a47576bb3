package main

import (
	"context"
	"fmt"
	"image/color"
	"os"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/cloudimage-dev/cloudimage-operator/test/observe"
)

// The page is as wide as a small screen; its unit is Grafana's grid.
const (
	unitWidth, unitHeight = vg.Length(38), vg.Length(20)
	columns               = 24
	heading               = vg.Length(40)
	gap                   = vg.Length(5)
	small                 = vg.Length(8) // letters
	resolution            = 96           // dots per inch, of 72 points
)

// page is a dashboard with its data.
type page struct {
	title      string
	begin, end time.Time
	panels     []panel
}

// panel is one of its pictures.
type panel struct {
	observe.Panel

	lines []line
}

// line is a series under the name that the legend gives it; X is in seconds of the Unix epoch.
type line struct {
	name   string
	points plotter.XYs
}

func (p *page) gather(ctx context.Context, api promv1.API, from observe.Panel) (panel, error) {
	one := panel{Panel: from}
	for _, target := range from.Targets {
		matrix, err := observe.Range(ctx, api, target.Expr, p.begin, p.end)
		if err != nil {
			return one, err
		}
		for _, series := range matrix {
			points := make(plotter.XYs, len(series.Values))
			for i, pair := range series.Values {
				points[i] = plotter.XY{X: float64(pair.Timestamp) / 1000, Y: float64(pair.Value)}
			}
			one.lines = append(one.lines, line{target.Legend(series.Metric), points})
		}
	}
	return one, nil
}

func (p *page) write(path string) error {
	height := 0
	for _, one := range p.panels {
		height = max(height, one.GridPos.Y+one.GridPos.H)
	}
	canvas := vgimg.NewWith(vgimg.UseWH(columns*unitWidth+gap, vg.Length(height)*unitHeight+heading+gap), vgimg.UseDPI(resolution),
		vgimg.UseBackgroundColor(color.Gray{Y: 236}))
	whole := draw.New(canvas)
	top := whole.Max.Y - heading
	write(whole, vg.Point{X: 2 * gap, Y: top + heading/3}, 16, color.Black, p.title)
	when := fmt.Sprintf("%s to %s UTC", p.begin.UTC().Format("2006-01-02 15:04"), p.end.UTC().Format("15:04"))
	write(whole, vg.Point{X: whole.Max.X - 2*gap - style(9, color.Black).Width(when), Y: top + heading/3}, 9, color.Gray{Y: 90}, when)
	for _, one := range p.panels {
		place := one.GridPos
		box := draw.Canvas{Canvas: canvas, Rectangle: vg.Rectangle{
			Min: vg.Point{X: vg.Length(place.X)*unitWidth + gap, Y: top - vg.Length(place.Y+place.H)*unitHeight + gap},
			Max: vg.Point{X: vg.Length(place.X+place.W) * unitWidth, Y: top - vg.Length(place.Y)*unitHeight},
		}}
		box.SetColor(color.White)
		box.Fill(box.Rectangle.Path())
		one.draw(draw.Crop(box, gap, -gap, gap, -gap), p.begin, p.end)
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(file); err != nil {
		return err
	}
	return file.Sync()
}

// draw draws a panel's title, and below it what its type asks for.
func (p panel) draw(box draw.Canvas, begin, end time.Time) {
	const title, size = vg.Length(14), vg.Length(10)
	write(box, vg.Point{X: box.Min.X, Y: box.Max.Y - size}, size, color.Black, p.Title)
	box = draw.Crop(box, 0, 0, 0, -title)
	switch {
	case len(p.lines) == 0:
		write(box, vg.Point{X: box.Min.X, Y: box.Center().Y}, size, color.Gray{Y: 120}, "no data")
	case p.Type == "stat":
		p.drawStat(box, begin, end)
	default:
		p.drawLines(box, begin, end)
	}
}

func sans(size vg.Length) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
}

func style(size vg.Length, ink color.Color) draw.TextStyle {
	return draw.TextStyle{Color: ink, Font: sans(size), Handler: plot.DefaultTextHandler}
}

func write(on draw.Canvas, at vg.Point, size vg.Length, ink color.Color, text string) {
	on.FillText(style(size, ink), at, text)
}
