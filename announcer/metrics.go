package announcer

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/announcer/state"
)

type metrics struct {
	moves  *prometheus.CounterVec
	leases *prometheus.CounterVec
}

func newMetrics(a *Announcer) (*metrics, error) {
	m := &metrics{
		moves:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "zonecast_announcer_moves_total", Help: "Changes of a VIP's state, by the one it came to."}, []string{"vip", "state"}),
		leases: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "zonecast_announcer_leases_total", Help: "Answers of a VIP's floor to the wish to withdraw."}, []string{"vip", "answer"}),
	}
	for _, v := range a.vips {
		for _, s := range state.All() {
			m.moves.WithLabelValues(v.name, s.String())
		}
		for _, l := range state.Leases() {
			if l != state.NotAsked {
				m.leases.WithLabelValues(v.name, l.String())
			}
		}
	}
	now := &collector{
		a,
		prometheus.NewDesc("zonecast_announcer_state", "1 for the state that a VIP is in here.", []string{"vip", "state"}, nil),
		prometheus.NewDesc("zonecast_announcer_session_established", "1 for a router with which a session is established.", []string{"peer"}, nil),
	}
	for _, c := range []prometheus.Collector{m.moves, m.leases, now} {
		if err := a.deps.Metrics.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// collector tells the states when it is asked.
type collector struct {
	a           *Announcer
	state, peer *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.state
	ch <- c.peer
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	one := func(yes bool) float64 {
		if yes {
			return 1
		}
		return 0
	}
	for _, r := range c.a.Report() {
		for _, s := range state.All() {
			ch <- prometheus.MustNewConstMetric(c.state, prometheus.GaugeValue, one(r.State == s.String()), r.VIP, s.String())
		}
	}
	for _, p := range c.a.speaker.Peers() {
		ch <- prometheus.MustNewConstMetric(c.peer, prometheus.GaugeValue, one(p.Established), p.Peer)
	}
}
