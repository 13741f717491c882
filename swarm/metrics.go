package swarm

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of a process, and of one dataset.
type metrics struct {
	peers, kept                              prometheus.Gauge
	sent, received, refused, garbage, stalls prometheus.Counter
	fetched, octets                          *prometheus.CounterVec
}

// of is what is counted of a dataset by itself.
func (m *metrics) of() []prometheus.Collector {
	return []prometheus.Collector{m.kept, m.fetched, m.octets}
}

// How a snapshot came, and where octets of it came from.
const (
	bySwarm    = "swarm"
	byFallback = "fallback"

	fromPeers = "peers"
	fromURLs  = "urls"
	fromDisk  = "disk"
)

// newMetrics registers those of a dataset: the first one of a process, or, with of, one more.
func newMetrics(reg prometheus.Registerer, dataset string, of *metrics) (*metrics, error) {
	labels := prometheus.Labels{"dataset": dataset}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "zonecast_swarm_" + name, Help: help, ConstLabels: labels})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "zonecast_swarm_" + name, Help: help, ConstLabels: labels})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "zonecast_swarm_" + name, Help: help, ConstLabels: labels}, []string{label})
	}
	m := &metrics{
		peers:    gauge("peers", "Connections to peers, of all datasets of a host together."),
		kept:     gauge("kept_bytes", "Octets of the snapshots that others can fetch here."),
		sent:     counter("sent_bytes_total", "Octets sent to peers, everything included, of all datasets of a host together."),
		received: counter("received_bytes_total", "Octets received from peers, everything included, of all datasets of a host together."),
		refused:  counter("refused_connections_total", "Connections of peers that were left alone or too many."),
		garbage:  counter("garbage_total", "Peers found to have sent what is not the snapshot."),
		stalls:   counter("stalled_total", "Connections left because the peer owed octets and sent none."),
		fetched:  vec("fetched_total", "Snapshots fetched, by way.", "way"),
		octets:   vec("snapshot_bytes_total", "Octets of snapshots had, by where they came from.", "from"),
	}
	m.fetched.WithLabelValues(bySwarm)
	m.fetched.WithLabelValues(byFallback)
	for _, from := range []string{fromPeers, fromURLs, fromDisk} {
		m.octets.WithLabelValues(from)
	}
	if of != nil {
		m.peers, m.sent, m.received, m.refused, m.garbage, m.stalls = of.peers, of.sent, of.received, of.refused, of.garbage, of.stalls
		return m, register(reg, m.of())
	}
	return m, register(reg, append(m.of(), m.peers, m.sent, m.received, m.refused, m.garbage, m.stalls))
}

func register(reg prometheus.Registerer, all []prometheus.Collector) error {
	var errs []error
	for _, c := range all {
		errs = append(errs, reg.Register(c))
	}
	return errors.Join(errs...)
}
