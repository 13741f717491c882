package site

import (
	"errors"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	watches                  prometheus.Gauge
	refused, garbage, octets prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Site) (*metrics, error) {
	const prefix = "zonecast_site_"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	m := &metrics{
		watches: prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "watches", Help: "Watches of agents."}),
		refused: counter("refused_total", "Connections refused because there were too many."),
		garbage: counter("garbage_total", "Connections ended because they sent what is not of the protocol."),
		octets:  counter("sent_bytes_total", "Octets of answers and batches sent to agents."),
	}
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, f)
	}
	total := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: prefix + name, Help: help}, f)
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.watches, m.refused, m.garbage, m.octets,
		gauge("agents", "Connections of agents.", func() float64 {
			s.mu.Lock()
			defer s.mu.Unlock()
			return float64(s.conns)
		}),
		gauge("store_age_seconds", "Since the store answered; +Inf when it never did.", func() float64 {
			s.link.mu.Lock()
			defer s.link.mu.Unlock()
			if s.link.asOf.IsZero() {
				return math.Inf(1)
			}
			return time.Since(s.link.asOf).Seconds()
		}),
		gauge("reports_waiting", "Nodes of agents that the store does not have yet.", func() float64 {
			s.reports.mu.Lock()
			defer s.reports.mu.Unlock()
			return float64(len(s.reports.dirty))
		}),
		total("store_reads_total", "Reads of the store made for agents.", func() float64 {
			s.through.mu.Lock()
			defer s.through.mu.Unlock()
			return float64(s.through.reads)
		}),
		total("store_commits_total", "Transactions at the store with what agents reported.", func() float64 {
			s.reports.mu.Lock()
			defer s.reports.mu.Unlock()
			return float64(s.reports.commits)
		}),
		total("kept_total", "Transactions of agents acknowledged while the store was away.", func() float64 {
			s.reports.mu.Lock()
			defer s.reports.mu.Unlock()
			return float64(s.reports.kept)
		}),
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
