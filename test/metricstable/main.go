// Command metricstable writes docs/metrics.md: the metrics of both programs, as their registries know them.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/cloudimage-dev/cloudimage-operator/internal/controller"
)

func main() {
	text, err := page()
	if err == nil && len(os.Args) == 2 {
		err = os.WriteFile(os.Args[1], []byte(text), 0o644)
	} else if err == nil {
		fmt.Print(text)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "metricstable:", err)
		os.Exit(1)
	}
}

const introduction = `# Metrics

Written by ` + "`make generate`" + ` from the code. Durations are in seconds, sizes in bytes. No label ever holds a URL, a
digest, or the name of an image or a node: the conditions and events of a ` + "`CloudImage`" + ` tell those. Both programs serve
the Go runtime's metrics as well, and those of controller-runtime and its client (` + "`workqueue_*`, `rest_client_*`" + `).

` + "`/metrics`" + ` is served over TLS, and only to those whom the API server lets ` + "`get`" + ` that path. Bind whoever scrapes to the
ClusterRole that comes with ` + "`config/rbac`" + `, here a ServiceAccount that is for
nothing else:

    kubectl --namespace cloudimage-system create serviceaccount metrics-scraper
    kubectl create clusterrolebinding cloudimage-metrics-scraper \
      --clusterrole=cloudimage-metrics-reader --serviceaccount=cloudimage-system:metrics-scraper

The certificate is made at each start and signed by nobody, so a scraper must not verify it; ` + "`--metrics-cert-dir`" + ` names a
directory with a ` + "`tls.crt` and `tls.key`" + ` of your own, which are read again when they change. ` + "`--metrics-secure=false`" + ` serves
plain HTTP to everybody, for a loopback address.

The network policies of the chart and of ` + "`config/default`" + ` let requests for metrics in from Pods of the operator's own namespace and of namespaces with
the label ` + "`metrics: enabled`" + `; the chart also from the namespaces of the ServiceAccounts in ` + "`metrics.readers`" + `. Label the namespace of your Prometheus:

    kubectl label namespace monitoring metrics=enabled

or name the peers in ` + "`networkPolicy.metricsFrom`" + `, as you have to for a Prometheus in the network of its host (` + "`ipBlock`" + `).

| a scraper gets | means |
|---|---|
| 401 | no token, or one that the API server does not know |
| 403 | its user may not ` + "`get /metrics`" + ` |
| 429 | unknown tokens came faster than they are asked about: 5, then one in 2 s from an address; 10, then 2 a second from all strangers |
| 503 | the API server could not be asked about an unknown token |
| a reset connection | over 16 KiB of headers, or the port is flooded: it has 64 connections, 16 of an address |

The answer of the API server is kept for a minute, a refusal for ten seconds. A token that was let in is good for ten minutes while the
API server cannot be asked, and needs nothing of the budget of unknown ones; nor does its successor over the same connection.
[Security](security.md) says what a scraper's token should be able to do: nothing else.
[Observability](observability.md) tells of alerts and the dashboard, and how to have the Prometheus operator scrape, with a
Secret for the token of that ServiceAccount. Without the operator, put that token into a file, and give Prometheus itself a ServiceAccount that
may get, list and watch Pods in that namespace:

    kubectl --namespace cloudimage-system get secret metrics-scraper -o jsonpath='{.data.token}' | base64 -d >cloudimage-token

` + "```yaml" + `
scrape_configs:
- job_name: cloudimage
  scheme: https
  tls_config: {insecure_skip_verify: true}
  authorization: {credentials_file: /etc/prometheus/cloudimage-token}
  kubernetes_sd_configs: [{role: pod, namespaces: {names: [cloudimage-system]}}]
  relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_container_port_name], regex: metrics, action: keep}
  - {source_labels: [__meta_kubernetes_pod_phase], regex: Failed|Succeeded, action: drop}
  - {source_labels: [__meta_kubernetes_pod_node_name], target_label: node}
` + "```" + `
`

// program is one of those that serve metrics.
type program struct {
	title    string
	register func(prometheus.Registerer) // all metrics of its own
}

func programs() []program {
	return []program{
		{"The agent", func(r prometheus.Registerer) { controller.NewAgentMetrics(r) }},
		{"The manager", func(r prometheus.Registerer) {
			controller.NewManagerMetrics(r)
			controller.NewConfinementWatch(controller.ConfinementWatch{}, r)
		}},
	}
}

// page is the whole file.
func page() (string, error) {
	var text strings.Builder
	text.WriteString(introduction)
	for _, program := range programs() {
		families, err := describe(program.register)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "\n## %s\n\n| name | type | labels | what it says |\n|---|---|---|---|\n", program.title)
		for _, family := range families {
			fmt.Fprintf(&text, "| `%s` | %s | %s | %s |\n",
				family.GetName(), strings.ToLower(family.GetType().String()), labels(family), family.GetHelp())
		}
	}
	return text.String(), nil
}

func labels(family *dto.MetricFamily) string {
	var names []string
	for _, pair := range family.GetMetric()[0].GetLabel() {
		names = append(names, "`"+pair.GetName()+"`")
	}
	return strings.Join(names, ", ")
}

// describe returns the metrics that a program registers, in the order of their names, each with one series.
func describe(register func(prometheus.Registerer)) ([]*dto.MetricFamily, error) {
	all := &recorder{Registry: prometheus.NewRegistry()}
	register(all)
	for _, collector := range all.collectors {
		if err := touch(collector); err != nil {
			return nil, err
		}
	}
	families, err := all.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather: %w", err)
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return families, nil
}

// recorder is a registry that remembers what was registered.
type recorder struct {
	*prometheus.Registry

	collectors []prometheus.Collector
}

// MustRegister implements prometheus.Registerer.
func (r *recorder) MustRegister(collectors ...prometheus.Collector) {
	r.collectors = append(r.collectors, collectors...)
	r.Registry.MustRegister(collectors...)
}

// touch makes a first series of a metric with labels, which shows nothing before it has one.
func touch(collector prometheus.Collector) error {
	var series func(values ...string) error
	switch vector := collector.(type) {
	case *prometheus.CounterVec:
		series = func(values ...string) error { _, err := vector.GetMetricWithLabelValues(values...); return err }
	case *prometheus.GaugeVec:
		series = func(values ...string) error { _, err := vector.GetMetricWithLabelValues(values...); return err }
	case *prometheus.HistogramVec:
		series = func(values ...string) error { _, err := vector.GetMetricWithLabelValues(values...); return err }
	default:
		return nil
	}
	const most = 4 // labels that a metric of this project has
	var err error
	for count := 1; count <= most; count++ {
		if err = series(slices.Repeat([]string{"x"}, count)...); err == nil {
			return nil
		}
	}
	return fmt.Errorf("make a series: %w", err)
}
