package publisher

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/follow"
)

type metrics struct {
	version, signed, leading, snapshotBytes prometheus.Gauge
	signSeconds, snapshotSeconds            prometheus.Histogram
	snapshots, refused                      *prometheus.CounterVec
	trimmed, downloads, damaged             prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, dataset string) (*metrics, error) {
	labels := prometheus.Labels{"dataset": dataset}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "zonecast_publisher_" + name, Help: help, ConstLabels: labels})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "zonecast_publisher_" + name, Help: help, ConstLabels: labels})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "zonecast_publisher_" + name, Help: help, ConstLabels: labels}, []string{label})
	}
	m := &metrics{
		version:       gauge("followed_version", "Newest version this publisher has verified."),
		signed:        gauge("signed_version", "Newest version this publisher has signed."),
		leading:       gauge("leading", "1 while this publisher leads and signs."),
		snapshotBytes: gauge("snapshot_bytes", "Octets of the newest snapshot."),
		signSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "zonecast_publisher_sign_seconds", Help: "From a version verified to its manifest in the store.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 14), // 0.25 ms to 2 s
		}),
		snapshotSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "zonecast_publisher_snapshot_seconds", Help: "Writing and checking a snapshot.", ConstLabels: labels,
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 14), // 10 ms to 82 s
		}),
		snapshots: vec("snapshots_total", "Snapshots made, by result.", "result"),
		refused:   vec("refused_total", "What could not be followed, by kind.", "kind"),
		trimmed:   counter("trimmed_nodes_total", "Log nodes and parts deleted."),
		downloads: counter("downloads_total", "Requests for snapshots served."),
		damaged:   counter("log_damage_total", "Times that the log in the store was found damaged, and a snapshot made to lead past it."),
	}
	for _, k := range follow.Kinds() {
		m.refused.WithLabelValues(string(k))
	}
	m.snapshots.WithLabelValues("ok")
	m.snapshots.WithLabelValues("error")
	var errs []error
	for _, c := range []prometheus.Collector{
		m.version, m.signed, m.leading, m.snapshotBytes, m.signSeconds, m.snapshotSeconds, m.snapshots, m.refused, m.trimmed, m.downloads, m.damaged,
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
