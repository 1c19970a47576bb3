// Command plot draws how a rollout went, from the JSON that bench-fleet gives it on standard input. It is a module of its own to keep
// what it imports out of the project's.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// curve is one rollout.
type curve struct {
	Name   string
	Pairs  int
	Points []struct {
		Seconds        float64 `json:"seconds"`
		Ready, Pulling int
	}
}

func main() {
	if err := run(os.Args[1:], os.Stdin); err != nil {
		fmt.Fprintf(os.Stderr, "plot: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, from io.Reader) error {
	if len(args) != 1 {
		return errors.New("give the file to draw")
	}
	var curves []curve
	if err := json.NewDecoder(from).Decode(&curves); err != nil {
		return fmt.Errorf("read the curves: %w", err)
	}
	return draw(args[0], curves)
}

// draw shows, for each rollout, the share of all pairs of a node and an image that are Ready, and that are pulled.
func draw(path string, curves []curve) error {
	p := plot.New()
	p.Title.Text = "Rollouts: pairs of a node and an image"
	p.X.Label.Text, p.Y.Label.Text = "minutes after apply", "%"
	p.Y.Min, p.Y.Max = 0, 100
	p.Legend.Left, p.Legend.YOffs = false, vg.Length(40)
	for i, c := range curves {
		if c.Pairs < 1 {
			return fmt.Errorf("curve %s has no pairs", c.Name)
		}
		ready, pulling := make(plotter.XYs, len(c.Points)), make(plotter.XYs, len(c.Points))
		for j, point := range c.Points {
			minutes, share := point.Seconds/60, 100/float64(c.Pairs)
			ready[j] = plotter.XY{X: minutes, Y: share * float64(point.Ready)}
			pulling[j] = plotter.XY{X: minutes, Y: share * float64(point.Pulling)}
		}
		for _, series := range []struct {
			what   string
			points plotter.XYs
			dashes []vg.Length
		}{{"Ready", ready, nil}, {"pulling", pulling, plotutil.Dashes(1)}} {
			line, err := plotter.NewLine(series.points)
			if err != nil {
				return fmt.Errorf("plot %s: %w", c.Name, err)
			}
			line.Color, line.Width, line.Dashes = plotutil.Color(i), vg.Points(1.5), series.dashes
			p.Add(line)
			p.Legend.Add(c.Name+": "+series.what, line)
		}
	}
	if err := p.Save(18*vg.Centimeter, 10*vg.Centimeter, path); err != nil {
		return fmt.Errorf("save the plot: %w", err)
	}
	return nil
}
