package update

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	files, broken, records prometheus.Gauge
	failures               prometheus.Counter
	latency                prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		files:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "zonecast_zonefile_files", Help: "Zone files that are sources."}),
		broken:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "zonecast_zonefile_broken_files", Help: "Zone files whose newest content is not in the claims."}),
		records:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "zonecast_zonefile_records", Help: "Records claimed by zone files."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "zonecast_zonefile_errors_total", Help: "Contents of zone files that were refused."}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "zonecast_zonefile_commit_seconds",
			Help: "Time from noticing that a zone file changed to its commit.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15),
		}),
	}
	return m, errors.Join(r.Register(m.files), r.Register(m.broken), r.Register(m.records), r.Register(m.failures), r.Register(m.latency))
}
