package observe

import (
	"context"
	"fmt"
	"math"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// points is how many values a query returns of each series, at most: about one a pixel.
const points = 600

// Range asks a Prometheus for the time since begin, as Grafana does. Values that are no numbers are left out, and series without any.
func Range(ctx context.Context, api promv1.API, query string, begin, end time.Time) (model.Matrix, error) {
	step := max(Interval, end.Sub(begin)/points)
	value, _, _, err := api.QueryRange(ctx, query, promv1.Range{Start: begin, End: end, Step: step})
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus for %s: %w", query, err)
	}
	matrix, ok := value.(model.Matrix)
	if !ok {
		return nil, fmt.Errorf("ask Prometheus for %s: it answered with %T", query, value)
	}
	var numbers model.Matrix
	for _, series := range matrix {
		kept := &model.SampleStream{Metric: series.Metric}
		for _, pair := range series.Values {
			if value := float64(pair.Value); !math.IsNaN(value) && !math.IsInf(value, 0) {
				kept.Values = append(kept.Values, pair)
			}
		}
		if len(kept.Values) > 0 {
			numbers = append(numbers, kept)
		}
	}
	return numbers, nil
}
