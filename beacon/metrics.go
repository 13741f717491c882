package beacon

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// What becomes of what comes. Each is counted from the start.
var (
	startOutcomes  = []string{"issued", "opted_out", "origin", "private", "limited", "full"}
	reportOutcomes = []string{"taken", "opted_out", "origin", "private", "limited", "full", "malformed", "forged", "expired", "future", "repeated", "restarted"}
	askerOutcomes  = []string{"counted", "elsewhere", "limited"}
	queryOutcomes  = []string{"taken", "sampled", "private", "full", "malformed", "forged", "expired", "future"}
)

type metrics struct {
	starts, reports, queries, joins, askers *prometheus.CounterVec
	rtt                                     *prometheus.HistogramVec
	regret                                  prometheus.Histogram
	taps                                    prometheus.Gauge
}

// rttBuckets are seconds: from 1 ms to 8 s.
var rttBuckets = prometheus.ExponentialBuckets(0.001, 2, 14)

func newMetrics(b *Beacon, r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, outcomes []string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "zonecast_beacon_" + name, Help: help}, []string{"outcome"})
		for _, o := range outcomes {
			v.WithLabelValues(o)
		}
		return v
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "zonecast_beacon_" + name, Help: help}, value)
	}
	m := &metrics{
		starts:  counter("starts_total", "Measurements that browsers asked to begin, by outcome: issued (a token), or why not.", startOutcomes),
		reports: counter("reports_total", "Reports of browsers, by outcome: taken, or why not.", reportOutcomes),
		queries: counter("queries_total", "Queries that authorities told of, by outcome: taken (of a measurement), sampled (others), or why they are left out.", queryOutcomes),
		joins:   counter("joined_total", "Measurements that were counted: both (DNS told who asked), or http (it did not).", []string{"both", "http"}),
		askers:  counter("askers_total", "Who asked for measurements that were counted, beside their clients: counted, elsewhere (a client subnet that is not the client's), or limited (more than one client prefix may add).", askerOutcomes),
		rtt: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "zonecast_beacon_rtt_seconds", Help: "Round-trip times: to the best PoP of those that a measurement tried, to the mapped one, and to the anycast address.",
			Buckets: rttBuckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}, []string{"target"}),
		regret: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "zonecast_beacon_regret_seconds", Help: "How much further than the best PoP of those that a measurement tried the mapped one was.",
			Buckets: rttBuckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}),
		taps: prometheus.NewGauge(prometheus.GaugeOpts{Name: "zonecast_beacon_dnstap_connections", Help: "Authorities that tell of their queries now."}),
	}
	for _, target := range []string{"best", "mapped", "anycast"} {
		m.rtt.WithLabelValues(target)
	}
	under := func(value func() int) func() float64 {
		return func() float64 {
			b.mu.Lock()
			defer b.mu.Unlock()
			return float64(value())
		}
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.starts, m.reports, m.queries, m.joins, m.askers, m.rtt, m.regret, m.taps,
		gauge("measurements", "Measurements that are under way or were lately.", under(func() int { return b.joiner.Len() })),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "zonecast_beacon_unreported_total", Help: "Measurements that authorities told of, and no browser reported."},
			under(func() int { return int(b.joiner.Unreported()) })),
		gauge("rows", "Prefixes in the newest file.", func() float64 { return float64(b.files.rows.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "zonecast_beacon_evicted_total", Help: "Prefixes that went from a file for want of room (rows, memory)."}, func() float64 { return float64(b.files.evicted.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "zonecast_beacon_write_errors_total", Help: "Files that could not be written, and were tried again."}, func() float64 { return float64(b.files.failures.Load()) }),
		gauge("written_time_seconds", "When a file was written last, in Unix seconds; 0: not yet.", func() float64 { return float64(b.files.written.Load()) }),
	} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) joined(both bool) {
	if both {
		m.joins.WithLabelValues("both").Inc()
	} else {
		m.joins.WithLabelValues("http").Inc()
	}
}

func (m *metrics) asked(outcome string) { m.askers.WithLabelValues(outcome).Inc() }

func (m *metrics) query(outcome string) { m.queries.WithLabelValues(outcome).Inc() }
