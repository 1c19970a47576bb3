package controller

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// AgentMetrics are an agent's own metrics. Their labels are bounded: never a URL,
// a digest or the name of an image.
type AgentMetrics struct {
	active      prometheus.Gauge
	connections prometheus.Gauge
	pulls       *prometheus.CounterVec
	retries     *prometheus.CounterVec
	requests    prometheus.Counter
	seconds     prometheus.Histogram
	rate        prometheus.Histogram
	downloaded  prometheus.Counter
	bytes       prometheus.Counter
	resumed     prometheus.Counter
	room        atomic.Pointer[Room]
}

// NewAgentMetrics makes the metrics and registers them.
func NewAgentMetrics(registry prometheus.Registerer) *AgentMetrics {
	m := &AgentMetrics{
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cloudimage_active_pulls", Help: "Pulls that run now.",
		}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "cloudimage_active_connections", Help: "Connections that carry bytes of images now.",
		}),
		pulls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudimage_pulls_total", Help: "Pulls that ended, by result: Ready, Cancelled, or the reason of the failure.",
		}, []string{"result"}),
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "cloudimage_retries_total", Help: "Pulls and removals that failed and are tried again, by the reason of the failure.",
		}, []string{"reason"}),
		requests: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudimage_request_retries_total", Help: "Requests that were made again within a pull.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cloudimage_pull_duration_seconds", Help: "Time of successful pulls, from the first request to the published file.",
			Buckets: prometheus.ExponentialBuckets(0.5, 2, 13), // to 34 minutes
		}),
		rate: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "cloudimage_pull_bytes_per_second", Help: "Mean throughput of each successful pull.",
			Buckets: prometheus.ExponentialBuckets(1<<20, 2, 13), // 1 MiB/s to 4 GiB/s
		}),
		downloaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudimage_downloaded_bytes_total", Help: "Bytes of images that came over the network, also in pulls that failed.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudimage_pulled_bytes_total", Help: "Bytes of images that were pulled and verified.",
		}),
		resumed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "cloudimage_resumed_bytes_total", Help: "Bytes that successful pulls found on the disk from an interrupted one.",
		}),
	}
	m.room.Store(&Room{})
	registry.MustRegister(m.active, m.connections, m.pulls, m.retries, m.requests, m.seconds, m.rate, m.downloaded, m.bytes, m.resumed)
	registry.MustRegister(m.ofStore()...)
	m.showZeros()
	return m
}

// showZeros makes the series of all reasons: increase() does not see the first event of a counter that appears with it.
func (m *AgentMetrics) showZeros() {
	for _, result := range append(pullReasons(), "Ready", "Cancelled") {
		m.pulls.WithLabelValues(result)
	}
	for _, reason := range pullReasons() {
		if classOf(reason) != classTerminal {
			m.retries.WithLabelValues(reason)
		}
	}
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
		switch {
		case errors.Is(err, context.Canceled):
			m.pulls.WithLabelValues("Cancelled").Inc()
			return
		case err != nil:
			m.pulls.WithLabelValues(reasonOf(err)).Inc()
			return
		}
		m.pulls.WithLabelValues("Ready").Inc()
		if pulled.AverageBytesPerSecond == 0 {
			return // another image had brought the bytes
		}
		m.seconds.Observe(time.Since(started).Seconds())
		m.rate.Observe(float64(pulled.AverageBytesPerSecond))
		m.bytes.Add(float64(pulled.SizeBytes))
		m.resumed.Add(float64(pulled.ResumedBytes))
	}
}

// retried counts a failed order that will be tried again.
func (m *AgentMetrics) retried(err error) { m.retries.WithLabelValues(reasonOf(err)).Inc() }

// Transfer counts what one pull brings over the network, while it runs.
type Transfer struct {
	metrics     *AgentMetrics
	bytes       int64
	retries     int
	connections int
}

// NewTransfer begins to count a pull.
func (m *AgentMetrics) NewTransfer() *Transfer { return &Transfer{metrics: m} }

// Observe takes the bytes received and the requests repeated since the pull began,
// and the connections that carry bytes now. It is not for concurrent use.
func (t *Transfer) Observe(bytes int64, retries, connections int) {
	t.metrics.downloaded.Add(float64(max(0, bytes-t.bytes)))
	t.metrics.requests.Add(float64(max(0, retries-t.retries)))
	t.metrics.connections.Add(float64(connections - t.connections))
	t.bytes, t.retries, t.connections = bytes, retries, connections
}

// End says that the pull is over, however it ended.
func (t *Transfer) End() { t.Observe(t.bytes, t.retries, 0) }

// observeRoom notes the store's space, if it could be measured.
func (m *AgentMetrics) observeRoom(room Room) {
	if room.CapacityBytes > 0 {
		m.room.Store(&room)
	}
}
