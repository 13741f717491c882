package recursor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// scrapeTime bounds how long a scrape waits for Unbound's statistics.
const scrapeTime = time.Second

// metrics are those of the recursor, and at a scrape those of Unbound.
type metrics struct {
	recursor *Recursor

	flushes              *prometheus.CounterVec
	after                *prometheus.HistogramVec
	refused, unreachable prometheus.Counter
	unfit                prometheus.Counter

	up, version, zones, left, starts *prometheus.Desc
	rcodes                           *prometheus.Desc
	numbers                          []number

	mu sync.Mutex // one scrape at a time asks Unbound
}

// number is one of Unbound's statistics.
type number struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	key  string // of stats_noreset (unbound-control(8))
}

func newMetrics(r *Recursor, reg prometheus.Registerer) (*metrics, error) {
	labels := prometheus.Labels{"dataset": r.cfg.Dataset}
	desc := func(name, help string, of ...string) *prometheus.Desc {
		if slices.Contains(of, "dataset") { // one that the host carries; else it is that of the options
			return prometheus.NewDesc("zonecast_recursor_"+name, help, of, nil)
		}
		return prometheus.NewDesc("zonecast_recursor_"+name, help, of, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "zonecast_recursor_" + name, Help: help, ConstLabels: labels})
	}
	m := &metrics{
		recursor: r,
		flushes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "zonecast_recursor_flushes_total",
			Help: "What was taken out of Unbound's cache because the dataset changed: flush (a name), flush_type (a name and type), flush_zone (all at and below a name).",
		}, []string{"dataset", "command"}),
		after: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "zonecast_recursor_flush_seconds", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
			Help: "From the making of a version to the cache having nothing older, by this host's clock and the maker's.",
		}, []string{"dataset"}),
		refused:     counter("refused_commands_total", "Commands that Unbound refused."),
		unreachable: counter("unreachable_total", "Commands that could not be given to Unbound, and were tried again."),
		unfit:       counter("refused_configurations_total", "Configurations that unbound-checkconf refused whole; the one before stayed."),
		up:          desc("up", "1 when Unbound answers its remote control."),
		version:     desc("version", "Version of the dataset up to which Unbound's cache has nothing old; 0 is none yet.", "dataset"),
		zones:       desc("zones", "Zones of the dataset that Unbound asks the authority for.", "dataset"),
		left:        desc("refused_zones", "Zones that are left out because Unbound refuses them."),
		starts:      desc("starts_total", "Starts of Unbound by this process."),
		rcodes:      desc("answers_total", "Answers of Unbound to clients.", "rcode"),
	}
	for _, n := range []struct {
		kind            prometheus.ValueType
		name, key, help string
	}{
		{prometheus.CounterValue, "queries_total", "total.num.queries", "Queries of clients to Unbound."},
		{prometheus.CounterValue, "cache_hits_total", "total.num.cachehits", "Queries answered from the cache."},
		{prometheus.CounterValue, "cache_misses_total", "total.num.cachemiss", "Queries for which servers had to be asked."},
		{prometheus.CounterValue, "prefetches_total", "total.num.prefetch", "Names asked for again before they expired."},
		{prometheus.CounterValue, "expired_answers_total", "total.num.expired", "Expired answers given because servers did not answer."},
		{prometheus.CounterValue, "recursive_replies_total", "total.num.recursivereplies", "Answers for which servers were asked."},
		{prometheus.CounterValue, "ratelimited_queries_total", "total.num.queries_ip_ratelimited", "Queries dropped by Unbound's own limit for client addresses."},
		{prometheus.CounterValue, "secure_answers_total", "num.answer.secure", "Answers that were validated."},
		{prometheus.CounterValue, "bogus_answers_total", "num.answer.bogus", "Answers that failed validation and became SERVFAIL."},
		{prometheus.CounterValue, "unwanted_replies_total", "unwanted.replies", "Replies that nobody asked for; many are an attack."},
		{prometheus.CounterValue, "requests_exceeded_total", "total.requestlist.exceeded", "Queries dropped because the list of requests was full."},
		{prometheus.GaugeValue, "requests", "total.requestlist.current.all", "Requests that Unbound works on."},
		{prometheus.GaugeValue, "recursion_seconds", "total.recursion.time.avg", "Mean time of those answers for which servers were asked."},
		{prometheus.GaugeValue, "up_seconds", "time.up", "How long Unbound runs."},
		{prometheus.GaugeValue, "rrset_cache_bytes", "mem.cache.rrset", "Octets of the cache of RRsets."},
		{prometheus.GaugeValue, "message_cache_bytes", "mem.cache.message", "Octets of the cache of messages."},
		{prometheus.GaugeValue, "rrsets", "rrset.cache.count", "RRsets in the cache."},
		{prometheus.GaugeValue, "messages", "msg.cache.count", "Messages in the cache."},
	} {
		m.numbers = append(m.numbers, number{desc(n.name, n.help), n.kind, n.key})
	}
	for _, c := range []prometheus.Collector{m.flushes, m.after, m.refused, m.unreachable, m.unfit, m} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of recursor: %w", err)
		}
	}
	return m, nil
}

// begin has what is counted of a dataset begin at 0.
func (m *metrics) begin(dataset string) {
	m.after.WithLabelValues(dataset)
	for _, command := range []string{"flush", "flush_type", "flush_zone"} {
		m.flushes.WithLabelValues(dataset, command)
	}
}

// end forgets what was counted of a dataset.
func (m *metrics) end(dataset string) {
	m.after.DeleteLabelValues(dataset)
	m.flushes.DeletePartialMatch(prometheus.Labels{"dataset": dataset})
}

// flushed counts commands that were given.
func (m *metrics) flushed(dataset string, commands []string) {
	for _, c := range commands {
		command, _, _ := strings.Cut(c, " ")
		m.flushes.WithLabelValues(dataset, command).Inc()
	}
}

// Describe implements prometheus.Collector; what it gives does not depend on Unbound's
// running.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.up, m.version, m.zones, m.left, m.starts, m.rcodes} {
		ch <- d
	}
	for _, n := range m.numbers {
		ch <- n.desc
	}
}

// Collect implements prometheus.Collector. Statistics are there while Unbound answers.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.recursor.Status()
	starts := m.recursor.process().Starts
	gauge := func(d *prometheus.Desc, v float64, of ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, of...)
	}
	for _, c := range s.Carried {
		gauge(m.version, float64(c.Version), c.Dataset)
		gauge(m.zones, float64(c.Zones), c.Dataset)
	}
	gauge(m.left, float64(len(s.Refused)))
	ch <- prometheus.MustNewConstMetric(m.starts, prometheus.CounterValue, float64(starts))

	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	text, err := m.recursor.control.do(ctx, "stats_noreset")
	if err != nil {
		gauge(m.up, 0)
		return
	}
	gauge(m.up, 1)
	stats := statistics(text)
	for _, n := range m.numbers {
		if v, ok := stats[n.key]; ok {
			ch <- prometheus.MustNewConstMetric(n.desc, n.kind, v)
		}
	}
	for key, v := range stats {
		if rcode, ok := strings.CutPrefix(key, "num.answer.rcode."); ok && len(rcode) < 20 {
			ch <- prometheus.MustNewConstMetric(m.rcodes, prometheus.CounterValue, v, rcode)
		}
	}
}

// statistics reads lines key=value.
func statistics(text string) map[string]float64 {
	all := map[string]float64{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			all[key] = v
		}
	}
	return all
}
