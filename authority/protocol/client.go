package protocol

import (
	"net/netip"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/zonecast/zonecast/authority/cookie"
	"github.com/zonecast/zonecast/authority/ratelimit"
	"github.com/zonecast/zonecast/record"
)

const cookieSize = 4 + cookie.ClientSize + cookie.ServerSize // of the option in a response

// judge looks at the cookie that a query came with. A query whose server cookie is
// not good is answered as if it had none (RFC 7873 §5.2.4), with a new one; only who
// asks for nothing else is told (§5.4).
func (k *Worker) judge(q *query, client netip.Addr, now uint32) {
	if !q.hasCookie || k.cookies == nil {
		q.hasCookie = false
		if q.rcode == NoError && q.question == 0 {
			q.rcode = FormErr
		}
		return
	}
	c := &q.cookie
	q.verdict = k.cookies.Check(c.octet[:c.len], client, now)
	k.tally.cookies[q.verdict]++
	if q.verdict != cookie.Good {
		made := k.cookies.Make([cookie.ClientSize]byte(c.octet[:]), client, now)
		copy(c.octet[cookie.ClientSize:], made[:])
	}
	if q.rcode == NoError && q.question == 0 && q.verdict != cookie.ClientOnly && !q.verdict.Valid() {
		q.rcode = BadCookie
	}
}

// appendCookie writes the option as judge left it.
func (q *query) appendCookie(b []byte) []byte {
	b = append(b, 0, optionCookie, 0, cookieSize-4)
	return append(b, q.cookie.octet[:cookieSize-4]...)
}

// classes are what outcomes count as for limits.
var classes = [Outcomes]ratelimit.Class{
	Positive: ratelimit.Positive, Wildcard: ratelimit.Positive, Alias: ratelimit.Positive,
	NoData: ratelimit.NoData, NoName: ratelimit.NoName, Referral: ratelimit.Referral, Failure: ratelimit.Error,
}

// restrain lets each response of a batch go, or cuts it, or drops it, as the limit wants,
// now in nanoseconds since k.start. A client that has proved its address is not limited.
func (k *Worker) restrain(batch []Message, now int64) {
	for i := range batch {
		if q, m := &k.queries[i], &batch[i]; len(m.Response) > 0 && !q.verdict.Valid() {
			k.account(q, m, k.outcomes[i], now)
		}
	}
	if now >= k.sweep {
		k.sweep = now + int64(sweepEvery)
		k.config.Limiter.Sweep(now)
	}
}

func (k *Worker) account(q *query, m *Message, o Outcome, now int64) {
	name := uint64(0)
	switch {
	case o == Failure:
	case q.imputed != nil:
		name = xxh3.Hash(q.imputed)
	default:
		name = xxh3.Hash(q.Name())
	}
	class := classes[o]
	if class == ratelimit.Positive {
		name ^= uint64(q.qtype) * 0x9e3779b97f4a7c15
	}
	switch k.config.Limiter.Account(m.Client.Addr(), class, name, now) {
	case ratelimit.Slip:
		k.slip(q, m)
	case ratelimit.Drop:
		m.Response = m.Response[:0]
	}
}

// slip cuts a response to header and question with TC, so that the client comes again
// over TCP; or with the cookie that it was given here.
func (k *Worker) slip(q *query, m *Message) {
	b := m.Response[:headerSize+q.question]
	b[2] |= flagTC >> 8
	clear(b[6:headerSize])
	if q.edns {
		b[headerSize-1] = 1
		b = k.appendOPT(b, q, 0)
	}
	m.Response = b
}

// appendOPT writes an OPT record with no option but the cookie.
func (k *Worker) appendOPT(b []byte, q *query, rcode Rcode) []byte {
	do, size := byte(0), byte(0)
	if q.do {
		do = flagDO >> 8
	}
	if q.hasCookie {
		size = cookieSize
	}
	b = append(b, 0, 0, byte(record.TypeOPT), byte(k.maxUDP>>8), byte(k.maxUDP), byte(rcode>>4), 0, do, 0, 0, size)
	if size > 0 {
		b = q.appendCookie(b)
	}
	return b
}

// sweepEvery is how often the limits that ended are looked for.
const sweepEvery = time.Second / 16
