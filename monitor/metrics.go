package monitor

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	age           prometheus.Histogram
	probe         prometheus.Histogram
	failed        prometheus.Counter
	disagreements prometheus.Counter
}

func newMetrics(m *Monitor) (*metrics, error) {
	labels := prometheus.Labels{"dataset": m.cfg.Dataset}
	x := &metrics{
		age: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "zonecast_monitor_age_seconds", ConstLabels: labels,
			Help: "Age of the freshness record as hosts answer it: the age of the whole way.",
			// 1 ms to 9 hours: from a heartbeat just arrived to a night without a control plane.
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 26), NativeHistogramBucketFactor: 1.1,
		}),
		probe: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "zonecast_monitor_probe_seconds", ConstLabels: labels,
			Help:    "How long hosts took to answer the monitor, or not to.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "zonecast_monitor_probe_failures_total", ConstLabels: labels,
			Help: "Questions that hosts did not answer with a freshness record.",
		}),
		disagreements: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "zonecast_monitor_disagreements_total", ConstLabels: labels,
			Help: "Times a host reported another digest than others for the same version.",
		}),
	}
	alarmed := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "zonecast_monitor_alarmed_hosts", ConstLabels: labels,
		Help: "Live hosts that serve and say that a person should look: a manifest past its time, clocks that differ, a revoked key.",
	}, func() float64 {
		m.mu.Lock()
		defer m.mu.Unlock()
		n := 0
		for _, h := range m.hosts {
			if h.state != Missing && len(h.Alarms) > 0 {
				n++
			}
		}
		return float64(n)
	})
	hosts := &hostCollector{m, prometheus.NewDesc("zonecast_monitor_hosts", "Live hosts by state.", []string{"state"}, labels)}
	for _, c := range []prometheus.Collector{x.age, x.probe, x.failed, x.disagreements, hosts, alarmed} {
		if err := m.deps.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return x, nil
}

// hostCollector counts hosts by state when it is asked.
type hostCollector struct {
	m    *Monitor
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *hostCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *hostCollector) Collect(ch chan<- prometheus.Metric) {
	states := c.m.Report().States
	for _, s := range States() {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(states[s]), string(s))
	}
}
