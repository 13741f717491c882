package dnslog

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// Query is what a message says.
type Query struct {
	// From is who sent it: a resolver, as a rule. It is no mapped IPv4.
	From netip.Addr
	// Subnet is the client subnet (ECS) that came with it; the zero Prefix when there is none,
	// or one that says nothing.
	Subnet netip.Prefix
	// Name is the name that was asked, in wire form and as it was written. It is good until the
	// next message.
	Name []byte
}

var errMessage = errors.New("no DNS message with one question")

// Of the wire format.
const (
	headerSize    = 12 // RFC 1035 §4.1.1
	maxLabel      = 63
	maxName       = 255
	typeOPT       = 41 // RFC 6891 §6.1.1
	optionSubnet  = 8  // RFC 7871 §6
	maxRecords    = 512
	familyV4      = 1
	familyV6      = 2
	pointer       = 0xc0
	questionFixed = 4
	recordFixed   = 10
)

// parse reads the question's name and the client subnet of a message: a query, or a
// response, which repeats both.
func parse(b []byte) (name []byte, subnet netip.Prefix, err error) {
	if len(b) < headerSize || binary.BigEndian.Uint16(b[4:]) != 1 {
		return nil, subnet, errMessage
	}
	end, err := skipName(b, headerSize)
	if err != nil || end+questionFixed > len(b) || end-headerSize > maxName {
		return nil, subnet, errMessage
	}
	name = b[headerSize:end]
	for i := 0; name[i] != 0; i += 1 + int(name[i]) {
		if name[i] > maxLabel {
			return nil, subnet, errMessage // a pointer has nothing to point to
		}
	}
	at := end + questionFixed
	before := int(binary.BigEndian.Uint16(b[6:])) + int(binary.BigEndian.Uint16(b[8:]))
	records := before + int(binary.BigEndian.Uint16(b[10:]))
	if records > maxRecords {
		return nil, subnet, errMessage
	}
	for i := range records {
		if at, err = skipName(b, at); err != nil || at+recordFixed > len(b) {
			return nil, subnet, errMessage
		}
		kind, size := binary.BigEndian.Uint16(b[at:]), int(binary.BigEndian.Uint16(b[at+8:]))
		if at += recordFixed; at+size > len(b) {
			return nil, subnet, errMessage
		}
		if kind == typeOPT && i >= before {
			return name, option(b[at : at+size]), nil
		}
		at += size
	}
	return name, subnet, nil
}

// skipName gives the offset behind a name.
func skipName(b []byte, at int) (int, error) {
	for at < len(b) {
		switch n := int(b[at]); {
		case n == 0:
			return at + 1, nil
		case n&pointer == pointer:
			return at + 2, nil
		case n > maxLabel:
			return 0, errMessage
		default:
			at += 1 + n
		}
	}
	return 0, errMessage
}

// option finds the client subnet among the options of an OPT record.
func option(b []byte) (p netip.Prefix) {
	for len(b) >= 4 {
		code, size := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if b = b[4:]; size > len(b) {
			return p
		}
		if code == optionSubnet {
			return Subnet(b[:size])
		}
		b = b[size:]
	}
	return p
}

// Subnet reads the data of a client subnet option (RFC 7871 §6): family, source and scope length,
// as many octets of the address as the source length has bits. The zero Prefix is one that says nothing: of no
// bits (§7.1.2: the client wants none told), or not well-formed.
func Subnet(b []byte) (p netip.Prefix) {
	if len(b) < 4 {
		return p
	}
	family, bits := binary.BigEndian.Uint16(b), int(b[2])
	b = b[4:]
	size := 0
	switch family {
	case familyV4:
		size = 4
	case familyV6:
		size = 16
	}
	if bits == 0 || bits > 8*size || len(b) != (bits+7)/8 {
		return p
	}
	var octets [16]byte
	copy(octets[:], b)
	a, _ := netip.AddrFromSlice(octets[:size])
	if p = netip.PrefixFrom(a, bits); p != p.Masked() {
		return netip.Prefix{}
	}
	if a.Is4In6() {
		if bits <= 96 {
			return netip.Prefix{} // all of IPv4
		}
		p = netip.PrefixFrom(a.Unmap(), bits-96)
	}
	return p
}
