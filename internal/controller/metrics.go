package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ManagerMetrics are the manager's own metrics. Their labels are bounded: never
// the name of an image or a node.
type ManagerMetrics struct {
	planSeconds prometheus.Histogram
	writes      *prometheus.CounterVec
	nodes       *prometheus.GaugeVec
	images      *prometheus.GaugeVec
}

// NewManagerMetrics makes the metrics and registers them.
func NewManagerMetrics(registry prometheus.Registerer) *ManagerMetrics {
	m := &ManagerMetrics{
		planSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cloudimage_plan_duration_seconds", Help: "Time to decide the orders of all nodes, without writing them.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudimage_writes_total", Help: "Objects written to the API server, by what was written: orders or status.",
		}, []string{"what"}),
		nodes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cloudimage_assignments", Help: "Pairs of a node and an image, by state.",
		}, []string{"state"}),
		images: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cloudimage_images", Help: "Cloud images: every one, those whose rollout is stopped by failures, those being deleted.",
		}, []string{"state"}),
	}
	registry.MustRegister(m.planSeconds, m.writes, m.nodes, m.images)
	return m
}

func (m *ManagerMetrics) wroteOrders() { m.writes.WithLabelValues("orders").Inc() }
func (m *ManagerMetrics) wroteStatus() { m.writes.WithLabelValues("status").Inc() }

// observePlan counts what a plan saw.
func (m *ManagerMetrics) observePlan(plan *Plan, took time.Duration) {
	m.planSeconds.Observe(took.Seconds())
	counts := map[nodeState]int{}
	stopped := 0
	for i := range plan.views {
		for j := range plan.views[i].nodes {
			counts[plan.views[i].nodes[j].state]++
		}
		if plan.rollouts[i].broken != "" {
			stopped++
		}
	}
	for state, name := range map[nodeState]string{
		nodePending: "pending", nodePulling: "pulling", nodeReady: "ready", nodeFailed: "failed", nodeUnavailable: "unavailable",
	} {
		m.nodes.WithLabelValues(name).Set(float64(counts[state]))
	}
	m.images.WithLabelValues("active").Set(float64(len(plan.views)))
	m.images.WithLabelValues("stopped").Set(float64(stopped))
	m.images.WithLabelValues("removing").Set(float64(len(plan.removing)))
}
