package authority

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/authority/cookie"
	"github.com/zonecast/zonecast/authority/protocol"
	"github.com/zonecast/zonecast/authority/ratelimit"
	"github.com/zonecast/zonecast/authority/tap"
	"github.com/zonecast/zonecast/geo"
)

// rcodes is more than the largest response code that is counted.
const rcodes = len(protocol.Counters{}.Responses)

// collector adds the counters of all workers up when it is asked.
type collector struct {
	server *Server

	queries, responses, truncated, dropped *prometheus.Desc
	latency                                *prometheus.Desc
	version, versionTime, zones, rrsets    *prometheus.Desc
	problems, panics                       *prometheus.Desc
	outcomes, folds, damaged               *prometheus.Desc
	cookies, limited                       *prometheus.Desc
	tapped, untapped                       *prometheus.Desc
	tcpEvicted, tooLarge                   *prometheus.Desc
	changed, imageSize                     *prometheus.Desc
	unfit, mapRanges, pops, lastResort     *prometheus.Desc
	tcpOpen, tcpAccepted, tcpRefused       *prometheus.Desc
	tcpTimeouts, readErrors, writeErrors   *prometheus.Desc
}

func newCollector(s *Server) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("zonecast_authority_"+name, help, labels, prometheus.Labels{"dataset": s.config.Dataset})
	}
	return &collector{
		server:      s,
		queries:     desc("queries_total", "Messages received.", "transport"),
		responses:   desc("responses_total", "Responses given.", "rcode"),
		outcomes:    desc("outcomes_total", "Queries for data by what came of them: positive, wildcard, nodata, nxdomain, referral, alias (ends outside the zones here), failure.", "outcome"),
		folds:       desc("folds_total", "Images made of the one before and what changed since."),
		damaged:     desc("damaged_images_total", "Images that were found damaged while they were answered from; each was built anew."),
		changed:     desc("changed_names", "Names that lie in memory because they changed since the image was built."),
		imageSize:   desc("image_bytes", "Octets of the image that is answered from."),
		unfit:       desc("unfit_maps_total", "Versions whose maps or PoPs were malformed in part; what was there in their place stays."),
		mapRanges:   desc("map_ranges", "Ranges of addresses that the maps tell apart."),
		pops:        desc("pop_up", "Whether a PoP can be sent to: 1 up, 0 drained or down.", "pop"),
		lastResort:  desc("last_resort_total", "Answers with records of a PoP that is not up, since no other one that the client may be sent to has any."),
		truncated:   desc("truncated_total", "Responses with the TC bit."),
		dropped:     desc("dropped_total", "Messages that got no response: too short for a header, or responses themselves."),
		cookies:     desc("cookies_total", "COOKIE options of queries by what they were worth: client-only, good, renew (good and old), bad, expired, future.", "verdict"),
		limited:     desc("limited_responses_total", "UDP responses that limits looked at, by class of limit and what became of them: send, slip (sent truncated), drop.", "class", "action"),
		tapped:      desc("dnstap_written_total", "Responses given to the dnstap collector or file."),
		untapped:    desc("dnstap_lost_total", "Responses that were due for dnstap and not given: the queue was full, the connection broke, or queries of --authority-dnstap-always were more than their rate."),
		latency:     desc("answer_seconds", "Time from a query in memory to its response in memory, by what came of it; one query in 64 is measured.", "outcome"),
		version:     desc("version", "Version of the dataset that is answered; 0 is none yet."),
		versionTime: desc("version_timestamp_seconds", "Unix time at which that version was made; 0 is none yet."),
		zones:       desc("zones", "Zones that are answered."),
		rrsets:      desc("rrsets", "RRsets that are answered."),
		problems:    desc("journal_problems_total", "Times the journal could not be followed, or a version was not taken."),
		panics:      desc("lost_queries_total", "Queries lost by a bug in the server; anything but 0 is to be reported."),
		tcpOpen:     desc("tcp_connections", "TCP connections open."),
		tcpAccepted: desc("tcp_accepted_total", "TCP connections accepted."),
		tcpRefused:  desc("tcp_refused_total", "TCP connections closed at once because of a bound."),
		tcpEvicted:  desc("tcp_evicted_total", "Silent TCP connections closed to make room for others."),
		tooLarge:    desc("udp_too_large_total", "UDP responses larger than the path takes; sent truncated."),
		tcpTimeouts: desc("tcp_timeouts_total", "TCP connections closed in the middle of a message for slowness."),
		readErrors:  desc("udp_read_errors_total", "UDP receive calls that failed."),
		writeErrors: desc("write_errors_total", "Responses that could not be sent."),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(c, ch)
	ch <- c.pops // of which there may be none yet
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	var queries [2]uint64
	var responses [rcodes]uint64
	var outcomes [protocol.Outcomes]uint64
	var truncated, dropped, lastResort uint64
	var cookies [cookie.Verdicts]uint64
	var limited [ratelimit.Classes][ratelimit.Actions]uint64
	var sums [protocol.Outcomes]uint64
	var buckets [protocol.Outcomes][len(latencyBounds) + 1]uint64
	c.server.workers.each(func(k *worker) {
		n := &k.protocol.Counters
		for i := range queries {
			queries[i] += n.Queries[i].Load()
		}
		for i := range responses {
			responses[i] += n.Responses[i].Load()
		}
		for i := range outcomes {
			outcomes[i] += n.Outcomes[i].Load()
		}
		for i := range cookies {
			cookies[i] += n.Cookies[i].Load()
		}
		if k.limiter != nil {
			for i := range limited {
				for j := range limited[i] {
					limited[i][j] += k.limiter.Counters()[i][j].Load()
				}
			}
		}
		truncated += n.Truncated.Load()
		lastResort += n.LastResort.Load()
		dropped += n.Dropped.Load()
		for o := range buckets {
			for i := range buckets[o] {
				buckets[o][i] += k.latency[o].buckets[i].Load()
			}
			sums[o] += k.latency[o].sum.Load()
		}
	})
	counter(c.queries, queries[protocol.UDP], "udp")
	counter(c.queries, queries[protocol.TCP], "tcp")
	for i, v := range responses {
		if name := protocol.Rcode(i).String(); v > 0 || name != strconv.Itoa(i) {
			counter(c.responses, v, name)
		}
	}
	for i, v := range outcomes {
		counter(c.outcomes, v, protocol.Outcome(i).String())
	}
	for v := cookie.ClientOnly; v < cookie.Malformed; v++ { // of another length is no COOKIE option: FORMERR
		counter(c.cookies, cookies[v], v.String())
	}
	for class := range limited {
		for action, v := range limited[class] {
			counter(c.limited, v, ratelimit.Class(class).String(), ratelimit.Action(action).String())
		}
	}
	counter(c.truncated, truncated)
	counter(c.dropped, dropped)
	counter(c.lastResort, lastResort)
	counter(c.unfit, c.server.unfit.Load())
	for o := range buckets {
		cumulative, below := map[float64]uint64{}, uint64(0)
		for i, bound := range latencyBounds {
			below += buckets[o][i]
			cumulative[bound.Seconds()] = below
		}
		ch <- prometheus.MustNewConstHistogram(c.latency, below+buckets[o][len(latencyBounds)], float64(sums[o])/1e9, cumulative, protocol.Outcome(o).String())
	}

	var tapped tap.Counters
	if t := c.server.tap; t != nil {
		tapped = t.Counters()
	}
	counter(c.tapped, tapped.Written)
	counter(c.untapped, tapped.Lost)

	now := c.server.current.Load()
	gauge(c.version, float64(now.Version))
	gauge(c.versionTime, float64(now.Time)/1000)
	zones, rrsets, changed, size := 0, 0, 0, int64(0)
	if v := now.view; v != nil {
		zones, rrsets, changed, size = v.Zones(), v.Sets(), v.Changed(), v.Image().Size()
	}
	var guide *geo.Guide
	if now.view != nil {
		guide = now.view.Guide()
	}
	gauge(c.mapRanges, float64(guide.Ranges()))
	for _, p := range guide.States() {
		up := 0.0
		if p.State == geo.Up {
			up = 1
		}
		ch <- prometheus.MustNewConstMetric(c.pops, prometheus.GaugeValue, up, p.Name)
	}
	gauge(c.changed, float64(changed))
	gauge(c.imageSize, float64(size))
	counter(c.folds, c.server.folds.Load())
	counter(c.damaged, c.server.damaged.Load())
	gauge(c.zones, float64(zones))
	gauge(c.rrsets, float64(rrsets))
	counter(c.problems, c.server.problems.Load())
	counter(c.panics, c.server.panics.Load())

	p := &c.server.packet.Counters
	gauge(c.tcpOpen, float64(p.TCPOpen.Load()))
	counter(c.tcpAccepted, p.TCPAccepted.Load())
	counter(c.tcpRefused, p.TCPRefused.Load())
	counter(c.tcpEvicted, p.TCPEvicted.Load())
	counter(c.tooLarge, p.TooLarge.Load())
	counter(c.tcpTimeouts, p.TCPTimeouts.Load())
	counter(c.readErrors, p.ReadErrors.Load())
	counter(c.writeErrors, p.WriteErrors.Load())
}
