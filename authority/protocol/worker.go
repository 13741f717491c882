package protocol

import (
	"encoding/binary"
	"math"
	"net/netip"
	"runtime"
	"time"

	"github.com/zonecast/zonecast/authority/cookie"
	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/ratelimit"
	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// Config is what answers depend on besides the data. The zero value is useful.
type Config struct {
	// MaxUDP is the largest response over UDP in octets; zero means 1232 (IPv6
	// minimum MTU 1280 - IPv6 header 40 - UDP header 8), less than 512 means 512.
	MaxUDP int
	// Version answers version.bind and version.server, Identity hostname.bind and
	// id.server, all class CH and type TXT (RFC 4892), at most 255 octets each. Empty:
	// REFUSED. Identity is also what NSID asks for (RFC 5001); empty: the option is
	// ignored.
	Version  string
	Identity string
	// Idle is how long a TCP connection may be silent, for clients that ask (RFC
	// 7828). Nil: they get no answer to that.
	Idle func() time.Duration
	// Cookies gives the secrets of server cookies (RFC 7873); it is asked once a batch.
	// Nil: the option is ignored.
	Cookies func() *cookie.Secrets
	// Limiter limits responses over UDP to clients without a good cookie. Nil: nothing
	// is limited.
	Limiter *ratelimit.Limiter
	// Seed makes choices between records repeatable; zero is a fixed one, too.
	Seed uint64
}

const defaultMaxUDP = 1232

// Message is one query and the room for its response.
type Message struct {
	Query    []byte         // valid during the call only
	Client   netip.AddrPort // who asks
	Local    netip.Addr     // whom; may be invalid
	Response []byte         // comes empty; stays so when there is nothing to respond
}

// MaxBatch is how many messages are looked up together: enough for the waits for
// memory to overlap, few enough to stay in the nearest cache. A batch of at most as many
// is counted, limited and sampled once all of it is answered: a panic before leaves
// nothing of it.
const MaxBatch = 32

// Worker answers queries, for one goroutine. It holds the scratch memory, so that an
// answer allocates nothing.
type Worker struct {
	Counters Counters
	// Sample, unless nil, is told of a query now and then: see SampleEvery.
	Sample func(m *Message, o Outcome, took time.Duration)

	config  Config
	maxUDP  int
	tally   tally      // of the batch
	turn    int        // how many queries go by until the next that is sampled
	one     [1]Message // for Respond
	pointer [2]byte

	queries  [MaxBatch]query
	outcomes [MaxBatch]Outcome
	timed    []timed

	start   time.Time // of the clock for limits: an hour before the first query, so that it is never 0
	sweep   int64     // when they are swept next
	cookies *cookie.Secrets

	lookup  data.Query
	chain   chain
	targets []target
	before  *place
	views   []viewOf
	chosen  [2]bitset
	lots    []lot
	steer   steer
	random  random
	gaps    random // of its own: choices do not depend on whether Sample is set
}

// timed is a query of the batch that is sampled.
type timed struct {
	index int
	took  time.Duration
}

// SampleEvery is how many queries there are for one that Sample is told of: reading the
// clock twice costs about as much as looking a name up. How many go by between two is
// drawn, 0 to 2*SampleEvery-2: with a fixed number, clients that ask some names in turn
// would have the same name sampled again and again.
const SampleEvery = 64

// gap draws how many queries go by until the next that is sampled.
func (k *Worker) gap() int { return int(k.gaps.next() >> 32 % (2*SampleEvery - 1)) }

// NewWorker makes a Worker.
func NewWorker(c Config) *Worker {
	k := &Worker{config: c, maxUDP: c.MaxUDP, random: random(c.Seed | 1), gaps: random(c.Seed | 1), start: time.Now().Add(-time.Hour)}
	if k.maxUDP == 0 {
		k.maxUDP = defaultMaxUDP
	}
	k.maxUDP = max(k.maxUDP, minUDP)
	k.timed = make([]timed, 0, MaxBatch)
	k.targets = make([]target, 0, maxTargets)
	k.views = make([]viewOf, 0, len(k.chosen))
	k.lots = make([]lot, 0, maxChosen)
	k.steer.choices = make([]choice, 0, maxChoices)
	return k
}

// Respond appends the response to msg to dst and returns it; when there is nothing
// to respond, dst comes back as it is. See Answer.
func (k *Worker) Respond(view *data.View, msg []byte, transport Transport, now time.Time, dst []byte) []byte {
	k.one[0] = Message{Query: msg, Response: dst[len(dst):]}
	k.Answer(view, k.one[:], transport, now)
	return append(dst, k.one[0].Response...)
}

// Answer answers a batch of queries, all from the same View; nil means that there is
// no data yet: SERVFAIL. Responses may share no memory with queries.
func (k *Worker) Answer(view *data.View, batch []Message, transport Transport, now time.Time) {
	k.cookies = nil
	if k.config.Cookies != nil {
		k.cookies = k.config.Cookies()
	}
	for len(batch) > 0 {
		n := min(len(batch), MaxBatch)
		k.some(view, batch[:n], transport, now)
		batch = batch[n:]
	}
	runtime.KeepAlive(view) // whose image would be unmapped otherwise
}

// some answers up to MaxBatch queries.
func (k *Worker) some(view *data.View, batch []Message, transport Transport, now time.Time) {
	k.tally = tally{}
	seconds := now.Unix()
	hasher, chart := &noData, (*geo.Chart)(nil)
	k.steer.guide = nil
	whole, guided := false, false
	if view != nil {
		hasher = view.Hasher()
		if !view.Chart().Empty() {
			chart = view.Chart()
		}
		k.steer.guide = view.Guide()
		whole, guided = k.steer.guide != nil, !k.steer.guide.Empty()
	}
	together := view != nil && len(batch) > 1
	for i := range batch {
		msg, q := batch[i].Query, &k.queries[i]
		if len(msg) < headerSize || msg[2]&(flagQR>>8) != 0 {
			// Answering a response could go on for ever between two servers.
			q.flags, q.question = flagQR, 0
			k.tally.dropped++
			continue
		}
		q.parse(hasher, msg)
		q.Now, q.Whole = seconds, whole
		if q.edns || q.question == 0 {
			k.judge(q, batch[i].Client.Addr(), uint32(seconds))
		}
		if q.Location != nil {
			q.Location = nil
		}
		if q.question == 0 {
			q.hasSubnet = false
			continue
		}
		if together {
			view.Look(&q.Query)
		}
		switch {
		case chart != nil:
			k.locate(q, chart, batch[i].Client.Addr())
		case guided:
			q.from, q.subnet.scope = batch[i].Client.Addr(), 0
		default:
			q.hasSubnet = false // without locations nothing is said of them
		}
	}
	if together {
		for i := range batch {
			if q := &k.queries[i]; q.question > 0 {
				view.LookNode(&q.Query)
			}
		}
	}
	next := MaxBatch // which is sampled
	if k.Sample != nil {
		next, k.timed = k.turn, k.timed[:0]
	}
	for i := range batch {
		q := &k.queries[i]
		switch {
		case q.flags&flagQR != 0:
			next++
		case i != next:
			k.outcomes[i] = k.answer(view, q, &batch[i], transport)
		default:
			next += 1 + k.gap()
			start := time.Now()
			k.outcomes[i] = k.answer(view, q, &batch[i], transport)
			k.timed = append(k.timed, timed{i, time.Since(start)})
		}
	}
	k.Counters.flush(&k.tally, transport, len(batch))
	if k.Sample != nil {
		k.turn = next - len(batch)
		for _, s := range k.timed {
			k.Sample(&batch[s.index], k.outcomes[s.index], s.took)
		}
	}
	if k.config.Limiter != nil && transport == UDP {
		k.restrain(batch, int64(now.Sub(k.start)))
	}
}

// locate finds where the client of a query is.
func (k *Worker) locate(q *query, chart *geo.Chart, client netip.Addr) {
	subnet := netip.Prefix{}
	if q.hasSubnet {
		subnet = q.subnet.prefix
	}
	q.subnet.scope = q.Locate(chart, client, subnet)
}

// answer answers one query that was parsed.
func (k *Worker) answer(view *data.View, q *query, m *Message, transport Transport) Outcome {
	if k.config.Limiter != nil {
		q.imputed = nil
	}
	if q.rcode == NoError && q.class == classIN && view != nil && !q.unusual() && k.plain(view, q, m, transport) {
		k.tally.responses[NoError]++
		k.tally.outcomes[Positive]++
		return Positive
	}
	k.steer.located, k.steer.wide = false, false
	a := answer{
		k: k, view: view, q: q, msg: m.Query, all: transport == TCP,
		buf: m.Response, rcode: q.rcode, info: NoInfo, most: math.MaxUint32,
	}
	limit := k.limit(q, transport)
	a.limit = limit - k.reserve(q, limit, transport)
	var header [headerSize]byte
	a.buf = append(append(a.buf, header[:]...), m.Query[headerSize:headerSize+q.question]...)
	if q.rcode == NoError {
		begin := a
		k.steer.begin()
		a.respond()
		if a.narrow() {
			a = begin
			a.varied = true
			k.steer.begin()
			a.respond()
		}
		if k.steer.last {
			k.tally.lastResort++
		}
	} else {
		a.outcome = Failure
	}
	k.finish(&a, m, limit, transport)
	k.tally.responses[a.rcode]++
	k.tally.outcomes[a.outcome]++
	return a.outcome
}

// unusual tells whether the query needs more than the record it asks for.
func (q *query) unusual() bool {
	switch q.qtype {
	case record.TypeA, record.TypeAAAA, record.TypePTR, record.TypeTXT, record.TypeCNAME:
		return q.edns && (q.nsid || q.keepalive || q.padding || q.hasSubnet)
	}
	return true
}

// plain answers the query when the answer is one record that lies ready, and tells
// whether it did.
func (k *Worker) plain(view *data.View, q *query, m *Message, transport Transport) bool {
	s := view.Plain(&q.Query, q.qtype)
	if s == nil {
		return false
	}
	var tail []byte // of a name: the pointer to what it has in common with the owner
	wire, ok := s.Plain()
	if !ok {
		var shared int
		if wire, shared, ok = s.Name(); !ok {
			return false
		}
		if shared > 1 {
			at := headerSize + q.Len() - shared
			k.pointer = [2]byte{pointerMark | byte(at>>8), byte(at)}
			wire, tail = wire[:len(wire)-shared], k.pointer[:]
		}
	}
	end := headerSize + q.question
	size := end + 2 + len(wire) + len(tail)
	if q.edns {
		size += optSize
		if q.hasCookie {
			size += cookieSize
		}
	}
	if size > k.limit(q, transport) {
		return false
	}
	b := append(m.Response[:0], m.Query[:end]...)
	b[2] = b[2]&(flagRD>>8) | flagQR>>8 | flagAA>>8
	b[3] &= flagCD
	additional := uint64(0)
	if q.edns {
		additional = 1
	}
	binary.BigEndian.PutUint64(b[4:], 1<<48|1<<32|additional)
	b = append(b, pointerMark, headerSize)
	b = append(b, wire...)
	if tail != nil {
		b = append(b, tail...)
		// RDLENGTH stands 8 octets behind the start of the record's fixed part.
		binary.BigEndian.PutUint16(b[end+2+8:], uint16(len(wire)+len(tail)-10))
	}
	if q.edns {
		b = k.appendOPT(b, q, NoError)
	}
	m.Response = b
	return true
}

// limit is how large the response may be.
func (k *Worker) limit(q *query, transport Transport) int {
	switch {
	case transport == TCP:
		return maxMessage
	case q.edns:
		return min(max(q.udpSize, minUDP), k.maxUDP)
	}
	return minUDP
}
