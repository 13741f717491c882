package presenter

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of one dataset.
type metrics struct {
	versions, changed, failures, unreadable, mended prometheus.Counter
	version, records, claims, leading, held         prometheus.Gauge
	waiting                                         prometheus.Gauge
	conflicts                                       *prometheus.GaugeVec
	trials                                          *prometheus.CounterVec
	gather, reconcile, commit, latency              prometheus.Histogram
}

// buckets are seconds: from 50 µs, below which nothing here is interesting, to 27 s.
func buckets() []float64 { return prometheus.ExponentialBuckets(50e-6, 3, 13) }

func newMetrics(reg prometheus.Registerer, dataset string) (*metrics, error) {
	labels := prometheus.Labels{"dataset": dataset}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "zonecast_presenter_" + name, Help: help, ConstLabels: labels})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "zonecast_presenter_" + name, Help: help, ConstLabels: labels})
	}
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "zonecast_presenter_" + name, Help: help, ConstLabels: labels, Buckets: buckets()})
	}
	m := &metrics{
		versions:   counter("versions_total", "Versions made."),
		changed:    counter("changed_rrsets_total", "RRsets put and removed by versions."),
		failures:   counter("failures_total", "Times a version could not be made and was tried again."),
		unreadable: counter("unreadable_total", "Batches of claims with shards that could not be read."),
		mended:     counter("mended_total", "Versions put back into the log, which had lost them or had them otherwise, before any publisher had followed."),
		version:    gauge("version", "Last version made by this process."),
		records:    gauge("rrsets", "RRsets of the reconciled dataset."),
		claims:     gauge("claims", "Claims in force."),
		leading:    gauge("leading", "1 while this process makes the versions."),
		held:       gauge("held", "1 while a version is held back by a guard."),
		waiting:    gauge("waiting_sources", "Sources whose changes are held, frozen or tried by rings."),
		gather:     histogram("gather_seconds", "From the first change of a burst to the beginning of its reconciliation."),
		reconcile:  histogram("reconcile_seconds", "Reconciliation of a burst."),
		commit:     histogram("commit_seconds", "Commit of a version, its parts included."),
		latency:    histogram("latency_seconds", "From the arrival of a claim to its version's commit."),
		conflicts: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "zonecast_presenter_conflicts", Help: "Conflicts by kind.", ConstLabels: labels,
		}, []string{"kind"}),
	}
	m.trials = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "zonecast_presenter_trials_total", Help: "Changes that were tried by rings, by what became of them.", ConstLabels: labels,
	}, []string{"outcome"})
	for _, outcome := range []string{"begun", "passed", "withdrawn"} {
		m.trials.WithLabelValues(outcome)
	}
	for _, c := range []prometheus.Collector{
		m.versions, m.changed, m.failures, m.unreadable, m.mended, m.version, m.records, m.claims, m.leading, m.held, m.waiting,
		m.gather, m.reconcile, m.commit, m.latency, m.conflicts, m.trials,
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of presenter %s: %w", dataset, err)
		}
	}
	return m, nil
}
