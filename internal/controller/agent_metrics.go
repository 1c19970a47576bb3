package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cloudimage-dev/cloudimage-operator/api/v1alpha1"
)

// AgentMetrics are an agent's own metrics.
type AgentMetrics struct {
	active  prometheus.Gauge
	pulls   *prometheus.CounterVec
	seconds prometheus.Histogram
	bytes   prometheus.Counter
	blobs   prometheus.Gauge
	free    prometheus.Gauge
}

// NewAgentMetrics makes the metrics and registers them.
func NewAgentMetrics(registry prometheus.Registerer) *AgentMetrics {
	m := &AgentMetrics{
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cloudimage_active_pulls", Help: "Pulls that run now.",
		}),
		pulls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudimage_pulls_total", Help: "Pulls that ended, by result: Ready, or the reason of the failure.",
		}, []string{"result"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cloudimage_pull_duration_seconds", Help: "Time of successful pulls, from the first request to the published file.",
			Buckets: prometheus.ExponentialBuckets(0.5, 2, 13),
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudimage_pulled_bytes_total", Help: "Bytes of images that were pulled and verified.",
		}),
		blobs: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cloudimage_store_blob_bytes", Help: "Bytes that verified images occupy in the store.",
		}),
		free: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cloudimage_store_available_bytes", Help: "Bytes that are free on the store's filesystem.",
		}),
	}
	registry.MustRegister(m.active, m.pulls, m.seconds, m.bytes, m.blobs, m.free)
	return m
}

// pullStarted counts a pull as active until the returned function gets its result.
func (m *AgentMetrics) pullStarted() func(Pulled, error) {
	started := time.Now()
	m.active.Inc()
	return func(pulled Pulled, err error) {
		m.active.Dec()
		if err != nil {
			m.pulls.WithLabelValues(reasonOf(err)).Inc()
			return
		}
		m.pulls.WithLabelValues("Ready").Inc()
		m.seconds.Observe(time.Since(started).Seconds())
		m.bytes.Add(float64(pulled.SizeBytes))
	}
}

// observeRoom notes the store's space, if it could be read.
func (m *AgentMetrics) observeRoom(room v1alpha1.StorageStatus, err error) {
	if err == nil {
		m.blobs.Set(float64(room.BlobBytes))
		m.free.Set(float64(room.AvailableBytes))
	}
}
