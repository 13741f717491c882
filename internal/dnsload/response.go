package dnsload

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// response is what --expect looks at.
type response struct {
	rcode     int // with the upper bits of EDNS
	truncated bool
	answers   []answer
}

type answer struct {
	rtype record.Type
	rdata record.Rdata // canonical
}

// errOther is a message that is no response to the question: the right one may
// still come.
var errOther = errors.New("the message is no response to the question")

// readResponse reads the response m to a query with this id and question section.
func readResponse(m []byte, id uint16, question []byte) (*response, error) {
	if len(m) < headerSize || binary.BigEndian.Uint16(m) != id || m[2]&0x80 == 0 {
		return nil, errOther
	}
	r := &response{rcode: int(m[3] & 0xf), truncated: m[2]&2 != 0}
	count := func(section int) int { return int(binary.BigEndian.Uint16(m[4+2*section:])) }
	at := headerSize
	switch {
	case count(0) == 0 && r.rcode != 0:
	case count(0) == 1 && len(m) >= at+len(question) && sameQuestion(m[at:at+len(question)], question):
		at += len(question)
	default:
		return nil, errOther
	}
	for section := 1; section <= 3; section++ {
		for i := range count(section) {
			a, ttl, next, err := readRecord(m, at)
			if err != nil {
				return nil, fmt.Errorf("record %d of section %d, at octet %d of %d: %w", i+1, section, at, len(m), err)
			}
			at = next
			switch {
			case section == 1:
				r.answers = append(r.answers, a)
			case section == 3 && a.rtype == record.TypeOPT:
				r.rcode |= int(ttl>>24) << 4 // RFC 6891 §6.1.3
			}
		}
	}
	return r, nil
}

var errShort = errors.New("it goes on behind the end of the message")

// readRecord reads the record at octet at, and says where the next one begins:
//
//	name | type | class | TTL | length | RDATA
//	 var |  2   |   2   |  4  |   2    |  var
func readRecord(m []byte, at int) (a answer, ttl uint32, next int, err error) {
	_, at, err = expandName(nil, m, at)
	if err != nil {
		return a, 0, 0, err
	}
	if at+10 > len(m) {
		return a, 0, 0, errShort
	}
	a.rtype = record.Type(binary.BigEndian.Uint16(m[at:]))
	ttl = binary.BigEndian.Uint32(m[at+4:])
	start := at + 10
	next = start + int(binary.BigEndian.Uint16(m[at+8:]))
	if next > len(m) {
		return a, 0, 0, errShort
	}
	if a.rtype == record.TypeOPT {
		return a, ttl, next, nil
	}
	wire, err := expandRdata(a.rtype, m[:next], start)
	if err == nil {
		a.rdata, err = dnswire.Canonical(a.rtype, wire)
	}
	return a, ttl, next, err
}

// expandName appends the name at octet at of m, without its compression (RFC 1035
// §4.1.4), to b and says what follows it.
func expandName(b, m []byte, at int) (name []byte, next int, err error) {
	start, limit := len(b), at // pointers go back, so that there is no loop
	for {
		if at >= len(m) {
			return nil, 0, errShort
		}
		n := int(m[at])
		switch {
		case n >= 0xc0:
			if at+2 > len(m) {
				return nil, 0, errShort
			}
			to := int(binary.BigEndian.Uint16(m[at:]) & 0x3fff)
			if to >= limit {
				return nil, 0, fmt.Errorf("name has a pointer from octet %d to %d, expected one to an earlier name", at, to)
			}
			if next == 0 {
				next = at + 2
			}
			at, limit = to, to
			continue
		case n > 63:
			return nil, 0, fmt.Errorf("name has the length octet 0x%02x at %d, expected 0 to 63 or a pointer", n, at)
		case at+1+n > len(m):
			return nil, 0, errShort
		}
		b = append(b, m[at:at+1+n]...)
		at += 1 + n
		if len(b)-start > 255 {
			return nil, 0, errors.New("name is longer than 255 octets (RFC 1035 §2.3.4)")
		}
		if n == 0 {
			if next == 0 {
				next = at
			}
			return b, next, nil
		}
	}
}

// expandRdata gives the RDATA from octet at to the end of m without compression.
func expandRdata(t record.Type, m []byte, at int) (wire []byte, err error) {
	fixed, names := namesIn(t)
	if at+fixed > len(m) {
		return nil, errShort
	}
	wire = append(wire, m[at:at+fixed]...)
	at += fixed
	for range names {
		if wire, at, err = expandName(wire, m, at); err != nil {
			return nil, err
		}
	}
	return append(wire, m[at:]...), nil
}

// namesIn says how many octets stand before the names of a type's RDATA, and how
// many names there are that senders may compress (RFC 3597 §4).
func namesIn(t record.Type) (fixed, names int) {
	switch t {
	case record.TypeNS, 3, 4, record.TypeCNAME, 7, 8, 9, record.TypePTR, record.TypeDNAME: // MD, MF, MB, MG, MR
		return 0, 1
	case record.TypeSOA, 14, 17: // MINFO, RP
		return 0, 2
	case record.TypeMX, 18, 21: // AFSDB, RT
		return 2, 1
	case 26: // PX
		return 2, 2
	case record.TypeSRV:
		return 6, 1
	}
	return 0, 0
}

// has tells whether there is a record of type t with this RDATA.
func (r *response) has(t record.Type, rd record.Rdata) bool {
	for _, a := range r.answers {
		if a.rtype == t && bytes.Equal([]byte(a.rdata), []byte(rd)) {
			return true
		}
	}
	return false
}
