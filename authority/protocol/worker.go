package protocol

import (
	"encoding/binary"

	"github.com/zonecast/zonecast/authority/data"
)

// Config is what answers depend on besides the data. The zero value is useful.
type Config struct {
	// MaxUDP is the largest response over UDP in octets; zero means 1232 (IPv6
	// minimum MTU 1280 - IPv6 header 40 - UDP header 8), less than 512 means 512.
	MaxUDP int
	// Version answers version.bind, Identity hostname.bind and id.server, all class
	// CH and type TXT (RFC 4892), at most 255 octets each. Empty: REFUSED. Identity is
	// also what NSID asks for (RFC 5001); empty: the option is ignored.
	Version  string
	Identity string
}

const defaultMaxUDP = 1232

// Worker answers queries, one at a time. It holds the scratch memory, so that an
// answer allocates nothing.
type Worker struct {
	Counters Counters

	config Config
	maxUDP int
	w      writer
	q      request
	lookup data.Query
	chain  chain
}

// NewWorker makes a Worker.
func NewWorker(c Config) *Worker {
	k := &Worker{config: c, maxUDP: c.MaxUDP}
	if k.maxUDP == 0 {
		k.maxUDP = defaultMaxUDP
	}
	k.maxUDP = max(k.maxUDP, minUDP)
	return k
}

// Respond appends the response to msg to dst and returns it; when there is nothing
// to respond, dst comes back as it is. view nil means that there is no data yet:
// SERVFAIL. msg and dst must not overlap.
func (k *Worker) Respond(view *data.View, msg []byte, transport Transport, dst []byte) []byte {
	k.Counters.Queries[transport].Add(1)
	if len(msg) < headerSize || binary.BigEndian.Uint16(msg[2:])&flagQR != 0 {
		// Answering a response could go on for ever between two servers.
		k.Counters.Dropped.Add(1)
		return dst
	}
	k.chain.len = 0
	rcode := k.q.parse(msg, k.chain.next())
	limit := k.limit(transport)
	a := answer{
		k:     k,
		view:  view,
		all:   transport == TCP,
		rcode: rcode,
	}
	k.w.reset(dst, limit)
	k.w.buf = append(k.w.buf, make([]byte, headerSize)...)
	if k.q.question != nil {
		k.w.buf = append(k.w.buf, k.q.question...)
		k.w.learn(k.q.name, headerSize)
	}
	if rcode == NoError {
		a.respond()
	}
	out := k.finish(&a)
	k.w.buf = nil // the caller's
	return out
}

// limit is how large the response may be without its OPT; an NSID for which there is
// no room is not asked for any more.
func (k *Worker) limit(transport Transport) int {
	limit := maxMessage
	if transport == UDP {
		limit = minUDP
		if k.q.edns {
			limit = min(max(k.q.udpSize, minUDP), k.maxUDP)
		}
	}
	if k.q.edns {
		limit -= optSize
		// One more octet than any question needs stays free (12 + 255 + 4).
		if n := 4 + len(k.config.Identity); k.q.nsid && n > 4 && limit-n > headerSize+255+4 {
			return limit - n
		}
		k.q.nsid = false
	}
	return limit
}

// finish writes OPT and header.
func (k *Worker) finish(a *answer) []byte {
	w := &k.w
	if k.q.edns {
		w.buf = append(w.buf, 0)
		w.u16(41)
		w.u16(k.maxUDP)
		do := 0
		if k.q.do {
			do = flagDO
		}
		w.u16(int(a.rcode>>4) << 8) // upper 8 bits of the rcode, version 0
		w.u16(do)
		if id := k.config.Identity; k.q.nsid {
			w.u16(4 + len(id))
			w.u16(optionNSID)
			w.u16(len(id))
			w.buf = append(w.buf, id...)
		} else {
			w.u16(0)
		}
		a.additional++
	}
	flags := flagQR | k.q.flags&(maskOpcode|flagRD|flagCD) | uint16(a.rcode&0xf)
	if a.authoritative {
		flags |= flagAA
	}
	if a.truncated {
		flags |= flagTC
		k.Counters.Truncated.Add(1)
	}
	k.Counters.Responses[a.rcode].Add(1)
	questions := 0
	if k.q.question != nil {
		questions = 1
	}
	h := w.buf[w.base:]
	binary.BigEndian.PutUint16(h, k.q.id)
	binary.BigEndian.PutUint16(h[2:], flags)
	for i, n := range [4]int{questions, a.answers, a.authority, a.additional} {
		binary.BigEndian.PutUint16(h[4+2*i:], uint16(n))
	}
	return w.buf
}

// chain has the names that one response went through: the question, then the
// targets of CNAMEs, found or synthesised.
type chain struct {
	names [maxChain + 2][255]byte
	lens  [maxChain + 2]uint8
	len   int
}

// maxChain is how many CNAMEs one response follows; BIND 9.18 follows 11.
const maxChain = 16

// next is the room for the next name.
func (c *chain) next() []byte { return c.names[c.len][:] }

// take enters the name of n octets that was written to next. It is false, and
// nothing is entered, when the chain was there before or is at its end.
func (c *chain) take(n int) bool {
	for i := range c.len {
		if int(c.lens[i]) == n && string(c.names[i][:n]) == string(c.names[c.len][:n]) {
			return false
		}
	}
	if c.len > maxChain {
		return false
	}
	c.lens[c.len] = uint8(n)
	c.len++
	return true
}

// last is the newest name.
func (c *chain) last() []byte { return c.names[c.len-1][:c.lens[c.len-1]] }
