// Command picture draws the Grafana dashboard of the chart from the data of a Prometheus, for people who have no Grafana at hand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/cloudimage-dev/cloudimage-operator/test/observe"
)

const limit = time.Minute

func main() {
	dashboard := flag.String("dashboard", "charts/cloudimage-operator/files/dashboard.json", "the dashboard's file")
	address := flag.String("prometheus", "http://127.0.0.1:9090", "URL of the Prometheus")
	since := flag.Duration("since", time.Hour, "how long ago the picture begins")
	out := flag.String("out", "", "file to write, a PNG")
	flag.Parse()
	if err := run(*dashboard, *address, *since, *out); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func run(path, address string, since time.Duration, out string) error {
	if out == "" {
		return errors.New("say with -out which file to write")
	}
	dashboard, err := observe.ReadDashboard(path)
	if err != nil {
		return err
	}
	client, err := api.NewClient(api.Config{Address: address})
	if err != nil {
		return fmt.Errorf("make a client of Prometheus: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	p := page{title: dashboard.Title, end: time.Now()}
	p.begin = p.end.Add(-since)
	series := 0
	for _, panel := range dashboard.Panels {
		one, err := p.gather(ctx, promv1.NewAPI(client), panel)
		if err != nil {
			return err
		}
		p.panels, series = append(p.panels, one), series+len(one.lines)
	}
	if err := p.write(out); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	fmt.Printf("%d panels with %d series are drawn in %s\n", len(p.panels), series, out)
	return nil
}
