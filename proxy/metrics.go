package proxy

import (
	"errors"
	"math"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	lag                        prometheus.Histogram
	refused, cacheErrors, anew prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, p *Proxy) (*metrics, error) {
	const prefix = "zonecast_proxy_"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	m := &metrics{
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "landing_seconds", Help: "From a landing, by the clock of its maker, to its being served.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 18), // 1 ms to 131 s
		}),
		refused:     counter("refused_total", "Times that something in the store could not be read, or did not fit."),
		cacheErrors: counter("cache_errors_total", "Writes to the cache that did not work."),
		anew:        counter("cache_damaged_total", "Caches found damaged at the start and begun anew."),
	}
	gauge := func(name, help string, f func(*shelf) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, func() float64 {
			p.shelf.mu.Lock()
			defer p.shelf.mu.Unlock()
			return f(p.shelf)
		})
	}
	var errs []error
	for _, c := range []prometheus.Collector{
		m.lag, m.refused, m.cacheErrors, m.anew,
		gauge("age_seconds", "Since the store confirmed that what is served is the newest; +Inf when it never did.", func(s *shelf) float64 {
			if a := age(s.asOf); a >= 0 {
				return a.Seconds()
			}
			return math.Inf(1)
		}),
		gauge("version", "Newest landing that is served; unix milliseconds of it.", func(s *shelf) float64 { return float64(s.head.Version) }),
		gauge("configurations", "Configurations that are served.", func(s *shelf) float64 { return float64(len(s.items)) }),
		gauge("values_bytes", "Octets of their values.", func(s *shelf) float64 { return float64(s.size) }),
		gauge("waiting", "Requests that wait for a newer version.", func(s *shelf) float64 { return float64(s.waiting) }),
	} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
