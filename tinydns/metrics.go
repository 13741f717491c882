package tinydns

import (
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	server *Server
	failed prometheus.Counter
	took   prometheus.Histogram

	version, lines, unsaid, starts *prometheus.Desc
}

func newMetrics(s *Server, reg prometheus.Registerer) (*metrics, error) {
	labels := prometheus.Labels{"dataset": s.cfg.Dataset}
	desc := func(name, help string, of ...string) *prometheus.Desc {
		if slices.Contains(of, "dataset") { // one that the host carries; else it is that of the options
			return prometheus.NewDesc("zonecast_tinydns_"+name, help, of, nil)
		}
		return prometheus.NewDesc("zonecast_tinydns_"+name, help, of, labels)
	}
	m := &metrics{
		server:  s,
		failed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "zonecast_tinydns_failed_builds_total", ConstLabels: labels, Help: "Builds of data.cdb that failed; the one before stayed."}),
		took:    prometheus.NewHistogram(prometheus.HistogramOpts{Name: "zonecast_tinydns_build_seconds", ConstLabels: labels, Buckets: prometheus.ExponentialBuckets(0.01, 2, 14), Help: "From the beginning of a build to its data.cdb being answered."}),
		version: desc("version", "Version of the dataset that is in data.cdb; 0 is none yet.", "dataset"),
		lines:   desc("lines", "Lines of tinydns-data that it was made of."),
		unsaid:  desc("unsaid", "RRsets and names that tinydns cannot say as the dataset says them, by reason (docs/tinydns.md).", "reason"),
		starts:  desc("starts_total", "Starts of tinydns by this process."),
	}
	for _, c := range []prometheus.Collector{m.failed, m.took, m} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of tinydns: %w", err)
		}
	}
	return m, nil
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.version, m.lines, m.unsaid, m.starts} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	s := m.server.Status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, c := range s.Carried {
		gauge(m.version, float64(c.Version), c.Dataset)
	}
	gauge(m.lines, float64(s.Lines))
	for _, r := range Reasons() {
		gauge(m.unsaid, float64(s.Unsaid[r]), string(r))
	}
	ch <- prometheus.MustNewConstMetric(m.starts, prometheus.CounterValue, float64(m.server.process().Starts))
}
