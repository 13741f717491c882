package mapper

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	cycles, failures, unchanged, unread prometheus.Counter
	seconds                             prometheus.Histogram
	age, mean, gap, overloaded, moved   prometheus.Gauge
	load                                *prometheus.GaugeVec // by PoP
}

func newMetrics(r prometheus.Registerer, name string) (*metrics, error) {
	labels := prometheus.Labels{"map": name}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "zonecast_mapper_" + name, Help: help, ConstLabels: labels})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "zonecast_mapper_" + name, Help: help, ConstLabels: labels})
	}
	m := &metrics{
		cycles:    counter("cycles_total", "Times the inputs were looked at."),
		failures:  counter("failures_total", "Times the map stayed as it was because inputs were missing, broken or too old, or the store was away."),
		unchanged: counter("unchanged_total", "Times what was computed is what is claimed already."),
		unread:    counter("unread_total", "Times some of the round-trip times could not be read, and the others were used."),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "zonecast_mapper_compute_seconds", Help: "How long it took to compute a map.", ConstLabels: labels, Buckets: prometheus.ExponentialBuckets(0.001, 2, 16), // 1 ms to 33 s
		}),
		age:        gauge("measurement_age_seconds", "Age of the newest round-trip time."),
		mean:       gauge("rtt_seconds", "Demand-weighted mean round-trip time of the map."),
		gap:        gauge("gap_ratio", "How far the mean is above the bound within the capacities, as a part of it."),
		overloaded: gauge("overloaded", "Demand above the capacities of PoPs, in the unit of capacity."),
		moved:      gauge("moved_ratio", "Part of the demand that the last map moved."),
		load: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "zonecast_mapper_load_ratio", Help: "Demand that the map gives a PoP, as a part of its capacity.", ConstLabels: labels,
		}, []string{"pop"}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.cycles, m.failures, m.unchanged, m.unread, m.seconds, m.age, m.mean, m.gap, m.overloaded, m.moved, m.load} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

// tell sets the gauges of a map.
func (m *metrics) tell(c *computed) {
	f := c.Figures
	m.mean.Set(f.Mean / 1000)
	m.gap.Set(f.Gap)
	m.overloaded.Set(f.Overloaded)
	m.moved.Set(c.Churn.Moved)
	m.load.Reset()
	for j, p := range c.in.PoPs {
		if p.Capacity > 0 {
			m.load.WithLabelValues(p.Name).Set(f.Load[j] / p.Capacity)
		}
	}
}
