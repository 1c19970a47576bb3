package main

import (
	"fmt"
	"math"
	"strconv"

	"gonum.org/v1/plot"
)

// scale is a multiple of a unit and its name.
type scale struct {
	factor float64
	suffix string
}

// scales are the multiples that Grafana uses for a unit, from the smallest on.
func scales(unit string) []scale {
	const binary = 1 << 10
	prefixes := []string{" ", " Ki", " Mi", " Gi", " Ti"}
	base := map[string]string{"bytes": "B", "Bps": "B/s"}[unit]
	switch unit {
	case "bytes", "Bps":
		var all []scale
		for i, prefix := range prefixes {
			all = append(all, scale{math.Pow(binary, float64(i)), prefix + base})
		}
		return all
	case "s":
		return []scale{{1e-6, " µs"}, {1e-3, " ms"}, {1, " s"}, {60, " min"}, {3600, " h"}}
	case "percentunit":
		return []scale{{0.01, " %"}}
	case "wps":
		return []scale{{1, "/s"}}
	default:
		return []scale{{1, ""}}
	}
}

// scaleOf is the largest multiple that a value has one of.
func scaleOf(value float64, unit string) scale {
	all := scales(unit)
	chosen := all[0]
	for _, one := range all {
		if math.Abs(value) >= one.factor {
			chosen = one
		}
	}
	return chosen
}

// format writes a value with three digits and its unit.
func format(value float64, unit string) string {
	chosen := scaleOf(value, unit)
	if value == 0 {
		return "0" + chosen.suffix
	}
	const digits = 3
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(value/chosen.factor, 'g', digits, 64), 64)
	if err != nil {
		return fmt.Sprint(value)
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64) + chosen.suffix
}

// unitTicks are about four ticks at round multiples of a unit.
type unitTicks struct{ unit string }

// Ticks implements plot.Ticker.
func (u unitTicks) Ticks(_, highest float64) []plot.Tick {
	const wanted = 4
	chosen := scaleOf(highest, u.unit)
	step := roundUp(highest / chosen.factor / wanted)
	if chosen.suffix == "" { // things are counted whole
		step = max(1, step)
	}
	var ticks []plot.Tick
	for i := 0; float64(i)*step*chosen.factor <= highest; i++ {
		label := strconv.FormatFloat(float64(i)*step, 'g', 6, 64) + chosen.suffix
		ticks = append(ticks, plot.Tick{Value: float64(i) * step * chosen.factor, Label: label})
	}
	return ticks
}

// roundUp is the next of 1, 2 and 5 times a power of ten.
func roundUp(value float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(value)))
	for _, factor := range []float64{1, 2, 5} {
		if value <= factor*power {
			return factor * power
		}
	}
	return 10 * power
}
