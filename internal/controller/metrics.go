package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// ManagerMetrics are the manager's own metrics. Their labels are bounded: never
// the name of an image or a node. One goroutine, the planner's, observes.
type ManagerMetrics struct {
	planSeconds  prometheus.Histogram
	writeSeconds *prometheus.HistogramVec
	assignments  *prometheus.GaugeVec
	nodes        *prometheus.GaugeVec
	images       *prometheus.GaugeVec
	stopped      prometheus.Gauge
	stops        *prometheus.CounterVec

	// broken are the revisions, by image, whose rollout the last plan found
	// stopped; nil before the first one, so that a restart counts no stop again.
	broken map[string]string
}

// NewManagerMetrics makes the metrics and registers them.
func NewManagerMetrics(registry prometheus.Registerer) *ManagerMetrics {
	m := &ManagerMetrics{
		planSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cloudimage_plan_duration_seconds", Help: "Time to decide the orders of all nodes, without writing them.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8), // to 8 s
		}),
		writeSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cloudimage_write_duration_seconds", Help: "Time of each write to the API server, by the resource written and the result: success, conflict or error.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8), // to 16 s
		}, []string{"resource", "result"}),
		assignments: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cloudimage_assignments", Help: "Pairs of a node and an image, by state: pending, pulling, ready, failed or unavailable.",
		}, []string{"state"}),
		nodes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cloudimage_nodes", Help: "Nodes by the state of their agent: ready, restarting (not ready for less than a minute), unavailable or agentless.",
		}, []string{"state"}),
		images: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "cloudimage_images", Help: "Cloud images by state: ready, progressing, stalled, suspended or removing.",
		}, []string{"state"}),
		stopped: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cloudimage_stopped_rollouts", Help: "Cloud images whose rollout is stopped by failures.",
		}),
		stops: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudimage_rollout_stops_total", Help: "Rollouts that were stopped by failures, by the reason of the failure.",
		}, []string{"reason"}),
	}
	registry.MustRegister(m.planSeconds, m.writeSeconds, m.assignments, m.nodes, m.images, m.stopped, m.stops)
	m.showZeros()
	return m
}

// showZeros makes the series that increase() and rate() count from: they do not see the first event of one that appears with it.
func (m *ManagerMetrics) showZeros() {
	for _, reason := range pullReasons() {
		if classOf(reason) == classTerminal {
			m.stops.WithLabelValues(reason)
		}
	}
	m.stops.WithLabelValues(v1alpha1.ReasonDigestDisputed)
	for _, resource := range []string{"cloudimages", "cloudimages/status", "nodeimagecaches", "nodes"} {
		for _, result := range []string{"success", "conflict", "error"} {
			m.writeSeconds.WithLabelValues(resource, result)
		}
	}
}

// observePlan counts what a plan decided.
func (m *ManagerMetrics) observePlan(plan *Plan, took time.Duration) {
	m.planSeconds.Observe(took.Seconds())
	counts := map[nodeState]int{}
	broken := map[string]string{}
	for i := range plan.views {
		view, reason := &plan.views[i], plan.rollouts[i].broken
		for j := range view.nodes {
			counts[view.nodes[j].state]++
		}
		if reason == "" {
			continue
		}
		broken[view.image.Name] = view.revision
		if m.broken != nil && m.broken[view.image.Name] != view.revision {
			m.stops.WithLabelValues(reason).Inc()
		}
	}
	m.broken = broken
	m.stopped.Set(float64(len(broken)))
	for state, name := range map[nodeState]string{
		nodePending: "pending", nodePulling: "pulling", nodeReady: "ready", nodeFailed: "failed", nodeUnavailable: "unavailable",
	} {
		m.assignments.WithLabelValues(name).Set(float64(counts[state]))
	}
}

// observeSnapshot counts what a plan was made from.
func (m *ManagerMetrics) observeSnapshot(s Snapshot, memory Memory, now time.Time) {
	nodes := map[string]int{"ready": 0, "restarting": 0, "unavailable": 0, "agentless": 0}
	for i := range s.Nodes {
		nodes[agentState(&s.Nodes[i], memory, now)]++
	}
	for state, count := range nodes {
		m.nodes.WithLabelValues(state).Set(float64(count))
	}
	images := map[string]int{"ready": 0, "progressing": 0, "stalled": 0, "suspended": 0, "removing": 0}
	for _, image := range s.Images {
		images[imageState(image)]++
	}
	for state, count := range images {
		m.images.WithLabelValues(state).Set(float64(count))
	}
}

// agentState is what a node counts as.
func agentState(node *Node, memory Memory, now time.Time) string {
	at, away := memory.unavailableAt(node.Name)
	switch {
	case !node.HasAgent:
		return "agentless"
	case !away:
		return "ready"
	case now.Before(at):
		return "restarting"
	default:
		return "unavailable"
	}
}

// imageState is what an image counts as, by the conditions that it shows.
func imageState(image *v1alpha1.CloudImage) string {
	conditions := image.Status.Conditions
	switch {
	case !image.DeletionTimestamp.IsZero():
		return "removing"
	case isTrue(conditions, v1alpha1.ConditionStalled):
		return "stalled"
	case isTrue(conditions, v1alpha1.ConditionReady):
		return "ready"
	case readyOf(&image.Status).Reason == v1alpha1.ReasonSuspended:
		return "suspended"
	default:
		return "progressing"
	}
}
