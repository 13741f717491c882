package tinydns

import (
	"encoding/binary"
	"fmt"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// canonical is dnswire.Canonical, without a copy for the types that files have by
// the million.
func canonical(t record.Type, wire []byte) ([]byte, error) {
	size := 0
	switch t {
	case record.TypeA:
		size = 4
	case record.TypeAAAA:
		size = 16
	case record.TypeTXT:
		return wire, checkStrings(wire)
	default:
		rd, err := dnswire.Canonical(t, wire)
		return []byte(rd), err
	}
	if len(wire) != size {
		return nil, fmt.Errorf("RDATA of %s has %d octets, expected %d", t, len(wire), size)
	}
	return wire, nil
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
