package compliance

import (
	"encoding/binary"
	"strings"
)

// Flags of the header (RFC 1035 §4.1.1, RFC 4035 §3) as the second 16-bit word has
// them.
const (
	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagZ  = 1 << 6
	flagAD = 1 << 5
	flagCD = 1 << 4

	opcodeShift = 11
	opcodeMask  = 0xf << opcodeShift

	flagDO = 1 << 15 // of EDNS (RFC 6891 §6.1.3)

	headerSize = 12
)

// Types and classes that the cases name.
const (
	typeA      = 1
	typeNS     = 2
	typeSOA    = 6
	typeTXT    = 16
	typeOPT    = 41
	typeDNSKEY = 48
	typeTKEY   = 249
	typeTSIG   = 250
	typeIXFR   = 251
	typeAXFR   = 252
	typeMAILB  = 253
	typeMAILA  = 254
	typeANY    = 255

	classIN   = 1
	classCH   = 3
	classHS   = 4
	classNone = 254
	classAny  = 255
)

// EDNS option codes (IANA).
const (
	optionNSID      = 3
	optionSubnet    = 8
	optionExpire    = 9
	optionCookie    = 10
	optionKeepalive = 11
	optionPadding   = 12
	optionError     = 15
	optionUnknown   = 100 // the one that ISC's tests use
)

// query is a message in the making.
type query struct {
	flags      uint16
	questions  []string // in wire form
	answer     []string // records in wire form
	additional []string
	tail       string   // octets behind all that is counted
	counts     []uint16 // what the header says instead of the truth
}

// octets is the message with the ID 0.
func (q query) octets() []byte {
	counts := q.counts
	if counts == nil {
		counts = []uint16{uint16(len(q.questions)), uint16(len(q.answer)), 0, uint16(len(q.additional))}
	}
	b := binary.BigEndian.AppendUint16([]byte{0, 0}, q.flags)
	for _, n := range counts {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	for _, part := range [][]string{q.questions, q.answer, q.additional} {
		for _, p := range part {
			b = append(b, p...)
		}
	}
	return append(b, q.tail...)
}

// wire is a name in wire form, of text without escapes; "" is the root.
func wire(text string) string {
	var sb strings.Builder
	for label := range strings.SplitSeq(strings.TrimSuffix(text, "."), ".") {
		if label != "" {
			sb.WriteByte(byte(len(label)))
			sb.WriteString(label)
		}
	}
	return sb.String() + "\x00"
}

func u16(v int) string { return string([]byte{byte(v >> 8), byte(v)}) }

// question asks for a name in wire form.
func question(name string, qtype, class int) string { return name + u16(qtype) + u16(class) }

// record is one in wire form.
func record(owner string, rtype, class int, ttl uint32, rdata string) string {
	return owner + u16(rtype) + u16(class) + u16(int(ttl>>16)) + u16(int(ttl&0xffff)) + u16(len(rdata)) + rdata
}

// opt is an OPT record of version 0.
func opt(size int, flags uint16, options ...string) string {
	return optVersion(0, size, flags, options...)
}

func optVersion(version uint8, size int, flags uint16, options ...string) string {
	return record("\x00", typeOPT, size, uint32(version)<<16|uint32(flags), strings.Join(options, ""))
}

func option(code int, value string) string { return u16(code) + u16(len(value)) + value }

// tsig is a TSIG record (RFC 8945 §4.2) of the key whose name is the root and whose
// secret is zeros, with a MAC that is not looked at when the key is not known.
func tsig() string {
	const signed, fudge, mac, id, noError, other = "\x00\x00\x5c\xf7\x9f\x11", "\x01\x2c", 32, "\x00\x00", "\x00\x00", "\x00\x00"
	return record("\x00", typeTSIG, classAny, 0,
		wire("hmac-sha256.")+signed+fudge+u16(mac)+strings.Repeat("\x00", mac)+id+noError+other)
}
