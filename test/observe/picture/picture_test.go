package main

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"gonum.org/v1/plot/plotter"

	"github.com/cloudimage-dev/cloudimage-operator/test/observe"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		value float64
		unit  string
		want  string
	}{
		{0, "none", "0"}, {3, "none", "3"}, {1234, "none", "1230"}, {0.5, "percentunit", "50 %"}, {0, "percentunit", "0 %"},
		{5 << 20, "Bps", "5 MiB/s"}, {1536, "bytes", "1.5 KiB"}, {0, "bytes", "0 B"}, {48 << 30, "bytes", "48 GiB"},
		{0.0025, "s", "2.5 ms"}, {90, "s", "1.5 min"}, {0.02, "wps", "0.02/s"},
	} {
		if got := format(test.value, test.unit); got != test.want {
			t.Errorf("%v of %s is %q, want %q", test.value, test.unit, got, test.want)
		}
	}
}

func TestTicks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		highest float64
		unit    string
		want    []string
	}{
		{3.2, "none", []string{"0", "1", "2", "3"}},
		{1.5, "none", []string{"0", "1"}},
		{100, "none", []string{"0", "50", "100"}},
		{3 << 30, "bytes", []string{"0 GiB", "1 GiB", "2 GiB", "3 GiB"}},
		{0.5, "s", []string{"0 ms", "200 ms", "400 ms"}},
		{0.03, "wps", []string{"0/s", "0.01/s", "0.02/s", "0.03/s"}},
	} {
		var got []string
		for _, tick := range (unitTicks{test.unit}).Ticks(0, test.highest) {
			got = append(got, tick.Label)
		}
		if !reflect.DeepEqual(got, test.want) {
			t.Errorf("up to %v of %s: %q, want %q", test.highest, test.unit, got, test.want)
		}
	}
}

func TestStackAndRuns(t *testing.T) {
	t.Parallel()
	got := stack([]line{{"a", plotter.XYs{{X: 1, Y: 1}, {X: 2, Y: 1}}}, {"b", plotter.XYs{{X: 2, Y: 5}, {X: 3, Y: 7}}}})
	want := []line{{"a", plotter.XYs{{X: 1, Y: 1}, {X: 2, Y: 1}}}, {"b", plotter.XYs{{X: 2, Y: 6}, {X: 3, Y: 7}}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("stacked: %v, want %v", got, want)
	}
	gap := plotter.XYs{{X: 0, Y: 1}, {X: 2, Y: 1}, {X: 30, Y: 1}, {X: 32, Y: 1}, {X: 34, Y: 1}}
	if got := runs(gap); len(got) != 2 || len(got[0]) != 2 || len(got[1]) != 3 {
		t.Errorf("cut at the gap: %v", got)
	}
}

// TestWrite draws every type of panel, and one without data.
func TestWrite(t *testing.T) {
	t.Parallel()
	begin := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	p := page{title: "test", begin: begin, end: begin.Add(time.Hour)}
	points := plotter.XYs{{X: float64(begin.Unix()), Y: 0}, {X: float64(begin.Unix()) + 1800, Y: 5}}
	for i, kind := range []string{"stat", "timeseries", "timeseries"} {
		one := panel{Panel: observe.Panel{Type: kind, Title: kind, GridPos: observe.Place{X: 8 * i, W: 8, H: 6}}}
		if i < 2 {
			one.lines = []line{{"a", points}, {"b", points}}
		}
		p.panels = append(p.panels, one)
	}
	path := filepath.Join(t.TempDir(), "page.png")
	if err := p.write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if size := picture.Bounds().Size(); size.X < 1000 || size.Y < 150 {
		t.Errorf("the picture is %v", size)
	}
}
