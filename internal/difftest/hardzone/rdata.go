package hardzone

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// Types that the package gives RDATA besides those that record names.
const (
	typeHINFO   record.Type = 13
	typeRP      record.Type = 17
	typeAFSDB   record.Type = 18
	typeNAPTR   record.Type = 35
	typeUnknown record.Type = 65280 // private use (RFC 6895 §3.1)
	typeEmpty   record.Type = 65281 // private use, here without RDATA
)

func soa(mname, rname record.Name, numbers ...uint32) record.Rdata {
	b := []byte(string(mname) + string(rname))
	for _, n := range numbers {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return record.Rdata(b)
}

// before is RDATA of 16-bit numbers and then a name: MX, SRV, AFSDB.
func before(n record.Name, numbers ...int) record.Rdata {
	var b []byte
	for _, v := range numbers {
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	return record.Rdata(string(b) + string(n))
}

// text is the RDATA of a TXT with that many octets, length octets included: at least 2.
func text(octets int, fill byte) record.Rdata {
	var sb strings.Builder
	for octets > 0 {
		n := min(octets-1, 255)
		if octets-1-n == 1 { // a string of its own would have no room for its length
			n--
		}
		sb.WriteByte(byte(n))
		sb.WriteString(strings.Repeat(string(rune(fill)), n))
		octets -= n + 1
	}
	return record.Rdata(sb.String())
}

func (m *maker) address() record.Rdata {
	return record.Rdata([]byte{192, 0, 2, byte(m.IntN(256))}) // RFC 5737
}

func (m *maker) address6() record.Rdata {
	return record.Rdata("\x20\x01\x0d\xb8" + string(slices.Repeat([]byte{0}, 10)) + string([]byte{byte(m.IntN(256)), byte(m.IntN(256))})) // RFC 3849
}

// rdata draws RDATA of a type; its names come from target.
func (m *maker) rdata(t record.Type, target func() record.Name) record.Rdata {
	switch t {
	case record.TypeA:
		return m.address()
	case record.TypeAAAA:
		return m.address6()
	case record.TypeNS, record.TypeCNAME, record.TypePTR, record.TypeDNAME:
		return record.Rdata(target())
	case record.TypeMX, typeAFSDB:
		return before(target(), m.IntN(3))
	case record.TypeSRV:
		return before(target(), m.IntN(2), m.IntN(2), 5060+m.IntN(2))
	case record.TypeDS:
		digest := make([]byte, 32)
		for i := range digest {
			digest[i] = byte(m.IntN(256))
		}
		return record.Rdata([]byte{byte(m.IntN(256)), byte(m.IntN(256)), 13, 2}) + record.Rdata(digest)
	case record.TypeSVCB, record.TypeHTTPS:
		if m.IntN(3) == 0 {
			return before(target(), 0) // the alias form
		}
		return before(target(), 1+m.IntN(2)) + "\x00\x01\x00\x03\x02h2" // alpn=h2
	case typeHINFO:
		return "\x03cpu\x02os"
	case typeRP:
		return record.Rdata(string(target()) + string(target()))
	case typeNAPTR:
		return record.Rdata("\x00\x01\x00\x02\x01u\x03sip\x00" + string(target()))
	case record.TypeCAA:
		return "\x00\x05issueca.example.org"
	case typeEmpty:
		return ""
	case typeUnknown:
		return record.Rdata([]byte{0xc0, 0x0c, byte(m.IntN(4))}) // no pointer, though it looks like one
	}
	return text(2+m.IntN(20), 'a'+byte(m.IntN(26)))
}
