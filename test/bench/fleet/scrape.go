package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"k8s.io/client-go/kubernetes"
)

// stock is what the API server has counted since it began, by resource.
type stock struct {
	bodies      map[string]float64 // bytes of the bodies of writes
	watchBytes  map[string]float64
	watchEvents map[string]float64
}

// scrape reads the API server's metrics.
func scrape(ctx context.Context, client kubernetes.Interface) (stock, error) {
	text, err := client.Discovery().RESTClient().Get().AbsPath("/metrics").Do(ctx).Raw()
	if err != nil {
		return stock{}, fmt.Errorf("read the API server's metrics: %w", err)
	}
	return parseMetrics(text), nil
}

// parseMetrics sums up the three metrics that are wanted by their label resource.
func parseMetrics(text []byte) stock {
	s := stock{bodies: map[string]float64{}, watchBytes: map[string]float64{}, watchEvents: map[string]float64{}}
	wanted := map[string]map[string]float64{
		"apiserver_request_body_size_bytes_sum": s.bodies, "apiserver_watch_events_sizes_sum": s.watchBytes,
		"apiserver_watch_events_total": s.watchEvents,
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), "{")
		into, ok := wanted[name]
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(rest, "} ")
		_, label, _ := strings.Cut(labels, `resource="`)
		resource, _, _ := strings.Cut(label, `"`)
		number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err == nil {
			// The group follows the resource in a name such as nodeimagecaches.prefetch.cloudimage.dev.
			resource, _, _ = strings.Cut(resource, ".")
			into[resource] += number
		}
	}
	return s
}

// since is what was counted after an earlier stock.
func (s stock) since(earlier stock) stock {
	difference := func(now, then map[string]float64) map[string]float64 {
		result := map[string]float64{}
		for name, value := range now {
			result[name] = value - then[name]
		}
		return result
	}
	return stock{
		bodies: difference(s.bodies, earlier.bodies), watchBytes: difference(s.watchBytes, earlier.watchBytes),
		watchEvents: difference(s.watchEvents, earlier.watchEvents),
	}
}
