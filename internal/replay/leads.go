package replay

import (
	"encoding/binary"
	"errors"

	"github.com/zonecast/zonecast/record"
)

// errShort is of a response that ends too early, or points where nothing can be.
var errShort = errors.New("the response is no DNS message")

// leads gives the names that records of a response point to and that a host looks up for
// it: the next name of a chain, and servers whose addresses it adds.
func leads(msg []byte) (names []record.Name, err error) {
	const header, fixed = 12, 10 // of a message; of a record behind its owner
	if len(msg) < header {
		return nil, errShort
	}
	questions, records := int(binary.BigEndian.Uint16(msg[4:])), 0
	for _, at := range [3]int{6, 8, 10} {
		records += int(binary.BigEndian.Uint16(msg[at:]))
	}
	at := header
	for range questions {
		if at = skipName(msg, at) + 4; at < header+4 {
			return nil, errShort
		}
	}
	for range records {
		if at = skipName(msg, at); at < 0 || len(msg) < at+fixed {
			return nil, errShort
		}
		t := record.Type(binary.BigEndian.Uint16(msg[at:]))
		data := at + fixed
		at = data + int(binary.BigEndian.Uint16(msg[at+fixed-2:]))
		if len(msg) < at {
			return nil, errShort
		}
		switch t {
		case record.TypeNS, record.TypeCNAME:
		case record.TypeMX:
			data += 2
		case record.TypeSRV:
			data += 6
		default:
			continue
		}
		if name, ok := nameAt(msg[:at], data); ok { // RDATA may be anything
			names = append(names, name)
		}
	}
	return names, nil
}

// skipName gives the offset behind the name at offset i, -1 when it does not end in msg.
func skipName(msg []byte, i int) int {
	for i >= 0 && i < len(msg) {
		switch c := msg[i]; {
		case c == 0:
			return i + 1
		case c >= 0xc0:
			return i + 2
		case c > 63:
			return -1
		default:
			i += int(c) + 1
		}
	}
	return -1
}

// nameAt reads the name at offset i, which may be compressed (RFC 1035 §4.1.4).
func nameAt(msg []byte, i int) (record.Name, bool) {
	const maxName = 255
	wire := make([]byte, 0, maxName)
	for end := i; ; { // pointers go backwards only
		if i >= len(msg) {
			return "", false
		}
		n := int(msg[i])
		switch {
		case n >= 0xc0:
			if i+1 >= len(msg) {
				return "", false
			}
			if i = (n&0x3f)<<8 | int(msg[i+1]); i >= end {
				return "", false
			}
			end = i
		case n > 63 || i+1+n > len(msg) || len(wire)+1+n > maxName:
			return "", false
		default:
			wire = append(wire, msg[i:i+1+n]...)
			if i += 1 + n; n == 0 {
				name, _, err := record.NameFromWire(wire)
				return name, err == nil
			}
		}
	}
}
