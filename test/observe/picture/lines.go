package main

import (
	"image/color"
	"slices"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/cloudimage-dev/cloudimage-operator/test/observe"
)

// palette are colours that also those can tell apart who see fewer: Okabe and Ito, "Color Universal Design", 2008.
func palette() map[string]color.NRGBA {
	return map[string]color.NRGBA{
		"blue": {0x00, 0x72, 0xb2, 255}, "orange": {0xe6, 0x9f, 0x00, 255}, "green": {0x00, 0x9e, 0x73, 255},
		"purple": {0xcc, 0x79, 0xa7, 255}, "red": {0xd5, 0x5e, 0x00, 255}, "light-blue": {0x56, 0xb4, 0xe9, 255},
		"yellow": {0xf0, 0xe4, 0x42, 255}, "#999999": {0x99, 0x99, 0x99, 255},
	}
}

// ink is the colour of a panel's series, by its name or its place.
func (p panel) ink(index int) color.NRGBA {
	if index < len(p.lines) {
		if fixed, ok := palette()[p.Color(p.lines[index].name)]; ok {
			return fixed
		}
	}
	order := []string{"blue", "orange", "green", "purple", "red", "light-blue", "#999999", "yellow"}
	return palette()[order[index%len(order)]]
}

// translucent is a colour with an opacity in percent.
func translucent(c color.NRGBA, percent float64) color.NRGBA {
	c.A = uint8(percent / 100 * 255)
	return c
}

// drawLines draws curves over time, with a legend below.
func (p panel) drawLines(box draw.Canvas, begin, end time.Time) {
	lines := p.lines
	field := p.FieldConfig.Defaults
	if field.Stacked() {
		lines = stack(lines)
	}
	box = draw.Crop(box, 0, 0, p.drawLegend(box), 0)
	chart := plot.New()
	chart.BackgroundColor = color.Transparent
	chart.X.Min, chart.X.Max = float64(begin.Unix()), float64(end.Unix())
	chart.X.Tick.Marker = plot.TimeTicks{Format: clock(end.Sub(begin)), Time: plot.UTCUnixTime}
	chart.Y.Min, chart.Y.Max = 0, ceiling(lines)
	chart.Y.Tick.Marker = unitTicks{field.Unit}
	for _, axis := range []*plot.Axis{&chart.X, &chart.Y} {
		axis.Tick.Label.Font, axis.Padding = sans(small), 0
		axis.LineStyle.Color, axis.Tick.LineStyle.Color, axis.Tick.Label.Color = color.Gray{Y: 160}, color.Gray{Y: 160}, color.Gray{Y: 60}
	}
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = color.Gray{Y: 225}, color.Gray{Y: 240}
	chart.Add(grid)
	for i, one := range slices.Backward(lines) { // a stack's lower layers are drawn over the higher ones
		var floor plotter.XYs
		if field.Stacked() && i > 0 {
			floor = lines[i-1].points
		}
		for _, run := range runs(one.points) {
			chart.Add(area(run, floor, translucent(p.ink(i), field.Custom.FillOpacity)), curve(run, p.ink(i)))
		}
	}
	chart.Draw(box)
}

// clock is how exactly the times of a span are told.
func clock(span time.Duration) string {
	const short = 15 * time.Minute
	if span < short {
		return time.TimeOnly
	}
	return "15:04"
}

// ceiling is a little above the highest value.
func ceiling(lines []line) float64 {
	const room = 1.08
	highest := 0.0
	for _, one := range lines {
		for _, point := range one.points {
			highest = max(highest, point.Y)
		}
	}
	if highest == 0 {
		return 1
	}
	return highest * room
}

// stack puts each series on top of the ones before, at the times that any of them has a value for.
func stack(lines []line) []line {
	sums := map[float64]float64{}
	stacked := make([]line, len(lines))
	for i, one := range lines {
		stacked[i].name = one.name
		for _, point := range one.points {
			sums[point.X] += point.Y
			stacked[i].points = append(stacked[i].points, plotter.XY{X: point.X, Y: sums[point.X]})
		}
	}
	return stacked
}

// runs cuts a series where values are missing.
func runs(points plotter.XYs) []plotter.XYs {
	const missing = 2.5 // steps
	step := observe.Interval.Seconds()
	for i := 1; i < len(points); i++ { // of a long time the steps are longer
		if d := points[i].X - points[i-1].X; i == 1 || d < step {
			step = d
		}
	}
	var all []plotter.XYs
	first := 0
	for i := 1; i <= len(points); i++ {
		if i == len(points) || points[i].X-points[i-1].X > missing*step {
			all, first = append(all, points[first:i]), i
		}
	}
	return all
}

func curve(points plotter.XYs, ink color.Color) plot.Plotter {
	return &plotter.Line{XYs: points, LineStyle: draw.LineStyle{Color: ink, Width: vg.Points(1.2)}}
}

// area fills down to the floor, which is zero where it has no value.
func area(points, floor plotter.XYs, fill color.Color) plot.Plotter {
	below := map[float64]float64{}
	for _, point := range floor {
		below[point.X] = point.Y
	}
	outline := append(plotter.XYs{}, points...)
	for _, point := range slices.Backward(points) {
		outline = append(outline, plotter.XY{X: point.X, Y: below[point.X]})
	}
	return &plotter.Polygon{XYs: []plotter.XYs{outline}, Color: fill}
}

// drawLegend writes the names below a panel, in as many rows as they need, and returns the height of that.
func (p panel) drawLegend(box draw.Canvas) vg.Length {
	const row, swatch, space = vg.Length(12), vg.Length(10), vg.Length(14)
	text := style(small, color.Gray{Y: 60})
	type entry struct{ x, row vg.Length }
	entries := make([]entry, len(p.lines))
	var at entry
	for i, one := range p.lines {
		width := swatch + 4 + text.Width(one.name) + space
		if at.x > 0 && at.x+width > box.Size().X {
			at = entry{0, at.row + 1}
		}
		entries[i] = at
		at.x += width
	}
	height := (at.row + 1) * row
	for i, one := range entries {
		y := box.Min.Y + height - (one.row+1)*row + 2
		x := box.Min.X + one.x
		box.StrokeLine2(draw.LineStyle{Color: p.ink(i), Width: 3}, x, y+small/3, x+swatch, y+small/3)
		box.FillText(text, vg.Point{X: x + swatch + 4, Y: y}, p.lines[i].name)
	}
	return height + 2
}
