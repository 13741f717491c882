package agent

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/follow"
)

type metrics struct {
	version, serving                            prometheus.Gauge
	applySeconds, appendSeconds, fetchSeconds   prometheus.Histogram
	octets, refused                             *prometheus.CounterVec
	journalErrors, quarantined, mended, reports prometheus.Counter
	samples                                     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, dataset string, age, validFor func() float64) (*metrics, error) {
	const prefix = "zonecast_agent_"
	labels := prometheus.Labels{"dataset": dataset}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + name, Help: help, ConstLabels: labels})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help, ConstLabels: labels})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help, ConstLabels: labels}, []string{label})
	}
	seconds := func(name, help string, first float64, n int) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + name, Help: help, ConstLabels: labels, Buckets: prometheus.ExponentialBuckets(first, 2, n),
		})
	}
	m := &metrics{
		version:       gauge("version", "Version in the journal, durably."),
		serving:       gauge("serving_version", "Version the authority says it answers; the difference to zonecast_agent_version is its lag."),
		applySeconds:  seconds("apply_seconds", "From a version made, by the clock of its maker, to durable in the journal.", 0.001, 18), // 1 ms to 131 s
		appendSeconds: seconds("append_seconds", "Writing a group to the journal, durably.", 0.0001, 16),                                 // 0.1 ms to 3 s
		fetchSeconds:  seconds("snapshot_fetch_seconds", "Fetching a snapshot.", 0.01, 18),                                               // 10 ms to 1,311 s
		octets:        vec("octets_total", "Octets taken, by kind.", "kind"),
		refused:       vec("refused_total", "What was not believed, or not to be had, by kind.", "kind"),
		journalErrors: counter("journal_errors_total", "Writes to the journal that did not work."),
		quarantined:   counter("quarantined_total", "Journals found damaged."),
		mended:        counter("mended_total", "Journals found damaged while open, and written anew from memory."),
		reports:       counter("reports_total", "Reports of what the host answers."),
		samples:       counter("samples_total", "Samples of questions put into the store."),
	}
	for _, k := range follow.Kinds() {
		m.refused.WithLabelValues(string(k))
	}
	m.refused.WithLabelValues(kindJournal)
	m.refused.WithLabelValues(kindRevocation)
	m.octets.WithLabelValues("delta")
	m.octets.WithLabelValues("snapshot")
	var errs []error
	for _, c := range []prometheus.Collector{
		m.version, m.serving, m.applySeconds, m.appendSeconds, m.fetchSeconds, m.octets, m.refused, m.journalErrors, m.quarantined, m.mended, m.reports, m.samples,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: prefix + "age_seconds", Help: "Since the version in the journal was made, by the clock of its maker; +Inf when there is none.", ConstLabels: labels,
		}, age),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: prefix + "manifest_valid_seconds", Help: "Until somebody should have signed another manifest, by this host's clock; below 0 is an alarm, and the host serves on; +Inf when the manifest does not say.", ConstLabels: labels,
		}, validFor),
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
