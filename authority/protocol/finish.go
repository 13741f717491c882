package protocol

import (
	"encoding/binary"
	"time"

	"github.com/zonecast/zonecast/authority/image"
)

// viewOf is short for what Worker keeps.
type viewOf = image.View

// noData hashes names before there is any data to look them up in.
var noData = image.NewHasher(0)

// errorSize is an extended error option without text.
const errorSize = 4 + 2

// reserve is how many octets the OPT may take of the limit; options for which there
// is no room are not asked for any more.
func (k *Worker) reserve(q *query, limit int, transport Transport) int {
	if !q.edns {
		return 0
	}
	size := optSize
	if q.hasCookie {
		size += cookieSize // RFC 7873 §5.2.3: with every response
	}
	if q.hasSubnet {
		size += 4 + 4 + (int(q.subnet.source)+7)/8
	}
	// One more octet than any question needs stays free (12 + 255 + 4).
	room := func(n int) bool {
		if limit-size-n <= headerSize+255+4 {
			return false
		}
		size += n
		return true
	}
	q.keepalive = q.keepalive && transport == TCP && k.config.Idle != nil && room(4+2)
	q.nsid = q.nsid && k.config.Identity != "" && room(4+len(k.config.Identity))
	return size
}

// finish writes OPT and header.
func (k *Worker) finish(a *answer, m *Message, limit int, transport Transport) {
	q := a.q
	if q.edns {
		k.opt(a, limit, transport)
	}
	if a.rcode == NotAuth {
		a.limit = limit
		a.appendTSIG() // behind all else (RFC 8945 §5.1)
	}
	flags := flagQR | q.flags&(maskOpcode|flagRD|flagCD) | uint16(a.rcode&0xf)
	if a.authoritative {
		flags |= flagAA
	}
	if a.truncated {
		flags |= flagTC
		k.tally.truncated++
	}
	questions := 0
	if q.question > 0 {
		questions = 1
	}
	h := a.buf
	copy(h, m.Query[:2])
	binary.BigEndian.PutUint16(h[2:], flags)
	for i, n := range [4]int{questions, a.answers, a.authority, a.additional} {
		binary.BigEndian.PutUint16(h[4+2*i:], uint16(n))
	}
	m.Response = a.buf
}

// opt writes the OPT record.
func (k *Worker) opt(a *answer, limit int, transport Transport) {
	q := a.q
	at := len(a.buf) + optSize - 2
	a.buf = k.appendOPT(a.buf, q, a.rcode)
	if q.nsid {
		a.option(optionNSID, len(k.config.Identity))
		a.buf = append(a.buf, k.config.Identity...)
	}
	// Of an error nothing depends on the client (RFC 7871 §7.2.1).
	if q.hasSubnet && (a.rcode == NoError || a.rcode == NXDomain) {
		a.subnet()
	}
	if q.keepalive {
		a.option(optionKeepalive, 2)
		a.u16(int(min(k.config.Idle()/(100*time.Millisecond), 65535)))
	}
	// Of all options this one is not worth an answer's truncation.
	if a.info != NoInfo && len(a.buf)+errorSize <= limit {
		a.option(optionError, 2)
		a.u16(int(a.info))
	}
	if q.padding && transport == TCP {
		k.pad(a, limit)
	}
	binary.BigEndian.PutUint16(a.buf[at:], uint16(len(a.buf)-at-2))
	a.additional++
}

// subnet writes the client subnet as it came, with how many bits of it decided (RFC
// 7871 §7.2.1): 0 when all clients get this answer.
func (a *answer) subnet() {
	s := &a.q.subnet
	n := (int(s.source) + 7) / 8
	scope := s.scope
	if !a.varied {
		scope = 0
	}
	a.option(optionSubnet, 4+n)
	a.u16(int(s.family))
	a.buf = append(append(a.buf, s.source, scope), s.octet[:n]...)
}

func (a *answer) option(code, n int) {
	a.u16(code)
	a.u16(n)
}

// padBlock is the block length for responses, in octets (RFC 8467 §4.1).
const padBlock = 468

// pad fills the message up to a multiple of padBlock, for clients that padded their
// query (RFC 7830 §4). Over UDP it would only make us send more than was asked, to
// an address that nobody has checked.
func (k *Worker) pad(a *answer, limit int) {
	n := (len(a.buf) + 4 + padBlock - 1) / padBlock * padBlock
	n = min(n, limit) - len(a.buf) - 4
	if n < 0 {
		return
	}
	a.option(optionPadding, n)
	a.buf = append(a.buf, make([]byte, n)...)
}
