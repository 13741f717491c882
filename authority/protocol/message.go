package protocol

import (
	"encoding/binary"
	"strconv"

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
	optSize     = 11      // of the OPT record we answer: no options
	flagDO      = 1 << 15 // in the lower half of the OPT TTL (RFC 6891 §6.1.3)
	minUDP      = 512     // RFC 1035 §4.2.1, RFC 6891 §6.2.3
	maxMessage  = 65535   // the length before a message over TCP has 16 bits
	pointerMark = 0xc0
)

// Rcode is a response code, the extended ones of EDNS included.
type Rcode uint16

// The response codes that this server gives (IANA, DNS RCODEs).
const (
	NoError  Rcode = 0
	FormErr  Rcode = 1
	ServFail Rcode = 2
	NXDomain Rcode = 3
	NotImp   Rcode = 4
	Refused  Rcode = 5
	YXDomain Rcode = 6
	BadVers  Rcode = 16
)

// request is a query message taken apart.
type request struct {
	id    uint16
	flags uint16
	// question is the octets of the question section, nil as long as it was not
	// understood; name is its lower-case name.
	question []byte
	name     []byte
	qtype    record.Type
	class    uint16
	edns     bool
	version  uint8
	udpSize  int // what the client offers
	do       bool
	nsid     bool // asks for the server's identity, RFC 5001
}

// parse reads msg, of which the header is there and QR is clear. buf is where the
// lower-case name goes: at least 255 octets. The rcode is NoError, FormErr, NotImp
// or BadVers; what was understood before an error is in q.
func (q *request) parse(msg, buf []byte) Rcode {
	*q = request{id: binary.BigEndian.Uint16(msg), flags: binary.BigEndian.Uint16(msg[2:])}
	if q.flags&maskOpcode != 0 {
		return NotImp
	}
	if binary.BigEndian.Uint16(msg[4:]) != 1 {
		return FormErr // RFC 9619: exactly one question
	}
	n := readQuestionName(msg, buf)
	if n == 0 || len(msg) < headerSize+n+4 {
		return FormErr
	}
	at := headerSize + n + 4
	q.question = msg[headerSize:at]
	q.name = buf[:n]
	q.qtype = record.Type(binary.BigEndian.Uint16(msg[at-4:]))
	q.class = binary.BigEndian.Uint16(msg[at-2:])

	before := int(binary.BigEndian.Uint16(msg[6:])) + int(binary.BigEndian.Uint16(msg[8:]))
	all := before + int(binary.BigEndian.Uint16(msg[10:]))
	for i := range all {
		owner := at
		if at = skipName(msg, at); at < 0 || len(msg) < at+10 {
			return FormErr
		}
		rr := msg[at:]
		end := at + 10 + int(binary.BigEndian.Uint16(rr[8:]))
		if len(msg) < end {
			return FormErr
		}
		if record.Type(binary.BigEndian.Uint16(rr)) == record.TypeOPT {
			// RFC 6891 §6.1.1: at most one, in the additional section, owned by the root.
			if q.edns || i < before || msg[owner] != 0 || !optionsAreWhole(rr[10:end-at]) {
				return FormErr
			}
			q.edns = true
			q.udpSize = int(binary.BigEndian.Uint16(rr[2:]))
			q.version = rr[5]
			q.do = binary.BigEndian.Uint16(rr[6:])&flagDO != 0
			q.nsid = hasOption(rr[10:end-at], optionNSID)
		}
		at = end
	}
	if q.version > 0 {
		return BadVers
	}
	return NoError
}

// readQuestionName copies the name at the start of the question in lower case and
// gives its length; 0 when it is none. Nothing stands before it that it could
// point to, so a compression pointer is an error.
func readQuestionName(msg, buf []byte) int {
	b := msg[headerSize:]
	for i := 0; i < len(b); {
		n := int(b[i])
		if n > 63 || i+1+n >= len(b) || i+1+n+1 > 255 && n > 0 {
			return 0
		}
		buf[i] = b[i]
		if n == 0 {
			return i + 1
		}
		for k := i + 1; k <= i+n; k++ {
			buf[k] = lower(b[k])
		}
		i += n + 1
	}
	return 0
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

// optionsAreWhole checks that the options of an OPT fill its RDATA (RFC 6891 §6.1.2).
func optionsAreWhole(b []byte) bool {
	for len(b) >= 4 {
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return false
		}
		b = b[n:]
	}
	return len(b) == 0
}

// optionNSID is the name server identifier's code (RFC 5001 §4).
const optionNSID = 3

// hasOption looks for an option among options that are whole.
func hasOption(b []byte, code uint16) bool {
	for len(b) >= 4 {
		if binary.BigEndian.Uint16(b) == code {
			return true
		}
		b = b[4+int(binary.BigEndian.Uint16(b[2:])):]
	}
	return false
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
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
	case BadVers:
		return "BADVERS"
	}
	return strconv.Itoa(int(r))
}
