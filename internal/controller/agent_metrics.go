package controller

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// AgentMetrics are an agent's own metrics.
type AgentMetrics struct {
	active  prometheus.Gauge
	pulls   *prometheus.CounterVec
	seconds prometheus.Histogram
	bytes   prometheus.Counter
	room    atomic.Pointer[Room]
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
	}
	m.room.Store(&Room{})
	registry.MustRegister(m.active, m.pulls, m.seconds, m.bytes)
	registry.MustRegister(m.ofStore()...)
	return m
}

// ofStore are the metrics of the store, as it was last measured.
func (m *AgentMetrics) ofStore() []prometheus.Collector {
	gauge := func(name, help string, value func(*Room) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(m.room.Load()) })
	}
	counter := func(name, help string, value func(*Room) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(m.room.Load())) })
	}
	return []prometheus.Collector{
		gauge("cloudimage_store_blob_bytes", "Bytes that verified images occupy in the store.", func(r *Room) float64 { return float64(r.BlobBytes) }),
		gauge("cloudimage_store_available_bytes", "Bytes that are free on the store's filesystem.", func(r *Room) float64 { return float64(r.AvailableBytes) }),
		gauge("cloudimage_store_reserved_bytes", "Bytes of the store that pulls have reserved, running or waiting.", func(r *Room) float64 { return float64(r.ReservedBytes) }),
		gauge("cloudimage_store_quarantine_bytes", "Bytes of images that were found wrong and not yet evicted.", func(r *Room) float64 { return float64(r.QuarantineBytes) }),
		gauge("cloudimage_scrub_complete_timestamp_seconds", "When every image had been read again within the scrub's interval; 0 before.", func(r *Room) float64 {
			if r.Scrubbed.IsZero() {
				return 0
			}
			return float64(r.Scrubbed.Unix())
		}),
		counter("cloudimage_scrubbed_bytes_total", "Bytes of images that the scrub read again.", func(r *Room) uint64 { return r.ScrubbedBytes }),
		counter("cloudimage_corrupt_blobs_total", "Images on the disk that were found wrong or unreadable.", func(r *Room) uint64 { return r.CorruptBlobs }),
		counter("cloudimage_evicted_blobs_total", "Unused images that were deleted to make room.", func(r *Room) uint64 { return r.EvictedBlobs }),
	}
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

// observeRoom notes the store's space, if it could be measured.
func (m *AgentMetrics) observeRoom(room Room) {
	if room.CapacityBytes > 0 {
		m.room.Store(&room)
	}
}
