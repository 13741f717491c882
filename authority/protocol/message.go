package protocol

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/record"
)

// Header flags (RFC 1035 §4.1.1, RFC 4035 §3), in the second 16-bit word.
const (
	flagQR     = 1 << 15
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	flagCD     = 1 << 4
	maskOpcode = 0xf << 11
)

const (
	headerSize  = 12
	classIN     = 1
	classCH     = 3
	typeMAILB   = record.Type(253)
	typeMAILA   = record.Type(254)
	typeTKEY    = record.Type(249)
	typeTSIG    = record.Type(250)
	optSize     = 11      // of an OPT record without options
	flagDO      = 1 << 15 // in the lower half of the OPT TTL (RFC 6891 §6.1.3)
	minUDP      = 512     // RFC 1035 §4.2.1, RFC 6891 §6.2.3
	maxMessage  = 65535   // the length before a message over TCP has 16 bits
	maxPointer  = 1<<14 - 1
	pointerMark = 0xc0
)

// Rcode is a response code, the extended ones of EDNS included.
type Rcode uint16

// The response codes that this server gives (IANA, DNS RCODEs).
const (
	NoError   Rcode = 0
	FormErr   Rcode = 1
	ServFail  Rcode = 2
	NXDomain  Rcode = 3
	NotImp    Rcode = 4
	Refused   Rcode = 5
	YXDomain  Rcode = 6
	NotAuth   Rcode = 9
	BadVers   Rcode = 16
	BadCookie Rcode = 23
	rcodes          = 24
)

// query is a query message taken apart. name, hashes and labels are those of the
// question when question is not zero.
type query struct {
	data.Query
	// What every query has is together, behind that of data.Query, so that a batch stays
	// in the nearest cache.
	question int // octets of the question section; 0: there is none that was understood
	flags    uint16
	qtype    record.Type
	class    uint16
	rcode    Rcode // of the parse: NoError when it may be answered
	options
	signature signature  // when rcode is not NoError
	from      netip.Addr // who asks; set when the data has maps
	imputed   []byte     // the name that the answer is counted for; nil: the question's
}

// parse reads msg, of which the header is there and QR is clear. What was understood
// before an error is in q.
func (q *query) parse(h *image.Hasher, msg []byte) {
	q.flags = binary.BigEndian.Uint16(msg[2:])
	q.question, q.rcode, q.marks = 0, NoError, marks{}
	counts := binary.BigEndian.Uint64(msg[4:])
	at := headerSize
	if counts>>48 == 1 {
		n := q.Read(h, msg[headerSize:])
		if n == 0 || len(msg) < headerSize+n+4 {
			q.rcode = FormErr
		} else {
			at += n + 4
			q.question = n + 4
			q.qtype = record.Type(binary.BigEndian.Uint16(msg[at-4:]))
			q.class = binary.BigEndian.Uint16(msg[at-2:])
			if counts == 1<<48 && q.flags&maskOpcode == 0 {
				return // nothing follows: the usual question without EDNS
			}
		}
	} else if counts>>48 > 1 {
		q.rcode = FormErr // RFC 9619: one question at most
	}
	q.signature.owner = 0
	if q.rcode == NoError && !q.additional(msg, at, counts) {
		q.rcode = FormErr
	}
	switch {
	case q.flags&maskOpcode != 0:
		q.rcode = NotImp
	case q.rcode == NoError && q.signature.owner > 0:
		q.rcode = NotAuth
	case q.rcode == NoError && q.version > 0:
		q.rcode = BadVers
	case q.rcode == NoError && q.question == 0 && !q.hasCookie:
		q.rcode = FormErr // no question makes sense only to fetch a cookie (RFC 7873 §5.4)
	}
}

// additional walks over the records behind the question, of which only OPT is of
// interest.
func (q *query) additional(msg []byte, at int, counts uint64) bool {
	before := int(counts>>32&0xffff) + int(counts>>16&0xffff)
	for i := range before + int(counts&0xffff) {
		owner := at
		if at = skipName(msg, at); at < 0 || len(msg) < at+10 {
			return false
		}
		rr := msg[at:]
		end := at + 10 + int(binary.BigEndian.Uint16(rr[8:]))
		if len(msg) < end {
			return false
		}
		switch record.Type(binary.BigEndian.Uint16(rr)) {
		case record.TypeOPT:
			// RFC 6891 §6.1.1: at most one, in the additional section, owned by the root.
			if q.edns || i < before || msg[owner] != 0 || !q.options.read(rr[:end-at]) {
				return false
			}
		case typeTSIG:
			// RFC 8945 §5.1: the last of the additional section; so there is one.
			if i < before || i+1 < before+int(counts&0xffff) || !q.signature.read(msg[:end], owner, at) {
				return false
			}
		}
		at = end
	}
	return true
}

// skipName gives the offset behind the name at offset i, -1 when it does not end in
// msg. Names of records that come with a query are of no interest: where a pointer
// points is not looked at.
func skipName(msg []byte, i int) int {
	for start := i; i < len(msg); {
		switch c := msg[i]; {
		case c == 0:
			return i + 1
		case c >= pointerMark:
			return i + 2
		case c > 63 || i-start > 255:
			return -1
		default:
			i += int(c) + 1
		}
	}
	return -1
}

// String gives the IANA mnemonic, or the number of a code this server does not give.
func (r Rcode) String() string {
	switch r {
	case NoError:
		return "NOERROR"
	case FormErr:
		return "FORMERR"
	case ServFail:
		return "SERVFAIL"
	case NXDomain:
		return "NXDOMAIN"
	case NotImp:
		return "NOTIMP"
	case Refused:
		return "REFUSED"
	case YXDomain:
		return "YXDOMAIN"
	case NotAuth:
		return "NOTAUTH"
	case BadVers:
		return "BADVERS"
	case BadCookie:
		return "BADCOOKIE"
	}
	return strconv.Itoa(int(r))
}
