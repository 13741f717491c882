package protocol

import (
	"encoding/binary"
	"net/netip"

	"github.com/zonecast/zonecast/authority/cookie"
)

// The EDNS options that are understood (IANA, DNS EDNS0 Option Codes).
const (
	optionNSID      = 3  // RFC 5001
	optionSubnet    = 8  // RFC 7871
	optionCookie    = 10 // RFC 7873
	optionKeepalive = 11 // RFC 7828
	optionPadding   = 12 // RFC 7830
	optionError     = 15 // RFC 8914
)

// ErrorInfo is an extended DNS error (RFC 8914 §4) for the one who looks for the
// cause.
type ErrorInfo uint16

// Those that this server gives. NoInfo is no code: nothing is said.
const (
	NoInfo           ErrorInfo = 0xffff
	OtherError       ErrorInfo = 0
	NotReady         ErrorInfo = 14
	Prohibited       ErrorInfo = 18
	NotAuthoritative ErrorInfo = 20
	NotSupported     ErrorInfo = 21
	InvalidData      ErrorInfo = 24
)

// options is what the OPT record of a query says.
type options struct {
	marks
	udpSize int // what the client offers; when edns
	cookie  cookieOption
	subnet  subnetOption
}

// on is the subnet that is asked for; zero: none.
func (o *options) on() netip.Prefix {
	if !o.hasSubnet {
		return netip.Prefix{}
	}
	return o.subnet.prefix
}

// marks tell what there is of options; what they do not tell is left from another query.
type marks struct {
	edns, do                 bool
	nsid, keepalive, padding bool
	hasCookie, hasSubnet     bool
	version                  uint8
	verdict                  cookie.Verdict // on the cookie, once it was judged
}

// cookieOption is the COOKIE option: the client's 8 octets and what the server once
// gave it.
type cookieOption struct {
	len   uint8
	octet [40]byte // as it came; the option of the response once it was judged
}

// subnetOption is the ECS option as it came.
type subnetOption struct {
	family uint16
	scope  uint8 // for the response
	source uint8 // octets of the address follow from it
	prefix netip.Prefix
	octet  [16]byte
}

// read takes an OPT record from its type on. False means FORMERR.
func (o *options) read(rr []byte) bool {
	o.edns = true
	o.udpSize = int(binary.BigEndian.Uint16(rr[2:]))
	o.version = rr[5]
	o.do = binary.BigEndian.Uint16(rr[6:])&flagDO != 0
	b := rr[10:]
	for len(b) >= 4 {
		code, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if 4+n > len(b) {
			return false
		}
		value := b[4 : 4+n]
		b = b[4+n:]
		if o.version > 0 {
			continue // whatever it means there
		}
		switch code {
		case optionNSID:
			o.nsid = true
		case optionKeepalive:
			o.keepalive = true
		case optionPadding:
			o.padding = true
		case optionCookie:
			// RFC 7873 §5.2.2: 8, or 16 to 40 octets. Of several the first counts (§5).
			if n != 8 && (n < 16 || n > 40) {
				return false
			}
			if !o.hasCookie {
				o.hasCookie, o.cookie.len = true, uint8(n)
				copy(o.cookie.octet[:], value)
			}
		case optionSubnet:
			if !o.readSubnet(value) {
				return false
			}
		}
	}
	return len(b) == 0 // RFC 6891 §6.1.2: the options fill the RDATA
}

// readSubnet takes a subnet as RFC 7871 §6 and §7.1 demand it: known family, scope 0, as
// many octets as the source length needs, no bits behind it.
func (o *options) readSubnet(b []byte) bool {
	if len(b) < 4 || b[3] != 0 {
		return false
	}
	family, source := binary.BigEndian.Uint16(b), int(b[2])
	bits := addressBits(family)
	if bits == 0 {
		// RFC 7871 §7.1.1: not ours to refuse; it is not used either.
		return true
	}
	if source > bits || len(b)-4 != (source+7)/8 {
		return false
	}
	s := &o.subnet
	o.hasSubnet, s.family, s.source, s.octet = true, family, b[2], [16]byte{}
	copy(s.octet[:], b[4:])
	a := netip.AddrFrom16(s.octet)
	if bits == 32 {
		a = netip.AddrFrom4([4]byte(s.octet[:4]))
	}
	s.prefix = netip.PrefixFrom(a, source)
	return s.prefix.Masked() == s.prefix
}

func addressBits(family uint16) int {
	switch family {
	case 1:
		return 32
	case 2:
		return 128
	}
	return 0
}
