package tinydns

import (
	"encoding/binary"
	"fmt"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// canonical is dnswire.Canonical, in wire's place for the types that files have by the
// million.
func canonical(t record.Type, wire []byte) ([]byte, error) {
	size := 0
	switch t {
	case record.TypeA:
		size = 4
	case record.TypeAAAA:
		size = 16
	case record.TypeTXT:
		return wire, checkStrings(wire)
	case record.TypeNS, record.TypeCNAME, record.TypePTR:
		if !lowerName(wire) {
			return nil, fmt.Errorf("RDATA of %s with %d octets is no name in wire form", t, len(wire))
		}
		return wire, nil
	default:
		rd, err := dnswire.Canonical(t, wire)
		return []byte(rd), err
	}
	if len(wire) != size {
		return nil, fmt.Errorf("RDATA of %s has %d octets, expected %d", t, len(wire), size)
	}
	return wire, nil
}

// lowerName lowers a name in its place, and tells whether wire is one and no more.
func lowerName(wire []byte) bool {
	if len(wire) > maxName {
		return false
	}
	for at := 0; at < len(wire); {
		n := int(wire[at])
		if n == 0 {
			return at+1 == len(wire)
		}
		if n > maxLabel || at+n >= len(wire) {
			return false
		}
		for i := at + 1; i <= at+n; i++ {
			wire[i] = lowerOf[wire[i]]
		}
		at += 1 + n
	}
	return false
}

// checkStrings tells why wire is not one or more strings with a length octet each.
func checkStrings(wire []byte) error {
	if len(wire) == 0 || len(wire) > record.MaxRdata {
		return fmt.Errorf("RDATA of TXT has %d octets, expected 1 to %d", len(wire), record.MaxRdata)
	}
	for i := 0; i < len(wire); i += 1 + int(wire[i]) {
		if i+1+int(wire[i]) > len(wire) {
			return fmt.Errorf("RDATA of TXT: a string of %d octets begins at %d, %d are left", wire[i], i, len(wire)-i-1)
		}
	}
	return nil
}

// appendNumbers appends serial, refresh, retry, expire and minimum of an SOA.
func appendNumbers(b []byte, n [5]uint32) []byte {
	for _, v := range n {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}
