package difftest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/record"
)

// Question is one query to both servers.
type Question struct {
	Name record.Name
	Type record.Type
	// Mixed asks with every other letter in upper case.
	Mixed bool
	Via   Via
}

// encode makes the query message, recursion not desired.
func (q Question) encode(id uint16) []byte { return q.appendTo(nil, id) }

func (q Question) appendTo(b []byte, id uint16) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(b, id)
	b = append(b, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	b = append(b, q.Name...)
	if q.Mixed {
		mix(b[start+12:])
	}
	b = binary.BigEndian.AppendUint16(b, uint16(q.Type))
	b = append(b, 0, 1)
	w := q.Via.way()
	if w.edns == 0 {
		return b
	}
	b[start+11] = 1
	flags := byte(0)
	if w.do {
		flags = 0x80
	}
	return append(b, 0, 0, 41, byte(w.edns>>8), byte(w.edns), 0, 0, flags, 0, 0, 0)
}

// mix puts every other letter of a canonical name in upper case.
func mix(name []byte) {
	for i := range name { // length octets are below 'a'
		if c := name[i]; i%2 == 0 && c >= 'a' && c <= 'z' {
			name[i] = c - 'a' + 'A'
		}
	}
}

// response is what a server answered, names in canonical form.
type response struct {
	rcode                         int
	aa, tc                        bool
	question                      []byte
	answer, authority, additional []rr
}

type rr struct {
	owner record.Name
	t     record.Type
	ttl   uint32
	rdata record.Rdata
}

func (r rr) String() string {
	return fmt.Sprintf("%s %d %s %s", r.owner, r.ttl, r.t, dnswire.FormatRdata(r.t, r.rdata))
}

var errShort = errors.New("message is cut off")

func decode(b []byte, id uint16) (*response, error) {
	if len(b) < 12 {
		return nil, errShort
	}
	if got := binary.BigEndian.Uint16(b); got != id {
		return nil, fmt.Errorf("message has ID %d, expected %d", got, id)
	}
	flags := binary.BigEndian.Uint16(b[2:])
	if flags>>15 == 0 {
		return nil, errors.New("message is a query")
	}
	r := &response{rcode: int(flags & 15), aa: flags>>10&1 == 1, tc: flags>>9&1 == 1}
	at := 12
	for range binary.BigEndian.Uint16(b[4:]) {
		_, end, err := readName(b, at)
		if err != nil {
			return nil, err
		}
		at = end + 4
	}
	if at > len(b) {
		return nil, errShort
	}
	r.question = slices.Clone(b[12:at]) // b is the client's buffer
	for i, section := range []*[]rr{&r.answer, &r.authority, &r.additional} {
		for range binary.BigEndian.Uint16(b[6+2*i:]) {
			x, end, err := readRR(b, at)
			if err != nil {
				return nil, err
			}
			at = end
			if x.t == record.TypeOPT {
				r.rcode |= int(x.ttl>>24) << 4
				continue
			}
			*section = append(*section, x)
		}
	}
	return r, nil
}

func readRR(b []byte, at int) (rr, int, error) {
	owner, at, err := readName(b, at)
	if err != nil {
		return rr{}, 0, err
	}
	if len(b) < at+10 {
		return rr{}, 0, errShort
	}
	r := rr{owner: owner, t: record.Type(binary.BigEndian.Uint16(b[at:])), ttl: binary.BigEndian.Uint32(b[at+4:])}
	end := at + 10 + int(binary.BigEndian.Uint16(b[at+8:]))
	if len(b) < end {
		return rr{}, 0, errShort
	}
	at += 10
	before, names := layout(r.t)
	if names == 0 || at+before > end {
		r.rdata = record.Rdata(b[at:end])
		return r, end, nil
	}
	rd := slices.Clone(b[at : at+before])
	for at += before; names > 0; names-- {
		n, next, err := readName(b, at)
		if err != nil {
			return rr{}, 0, err
		}
		rd = append(rd, n...)
		at = next
	}
	if at > end {
		return rr{}, 0, errShort
	}
	r.rdata = record.Rdata(append(rd, b[at:end]...))
	return r, end, nil
}

// layout says where RDATA has names that may be compressed (RFC 1035), or of which
// the case may differ: behind so many octets so many names.
func layout(t record.Type) (before, names int) {
	switch t {
	case record.TypeNS, record.TypeCNAME, record.TypePTR, record.TypeDNAME:
		return 0, 1
	case record.TypeSOA:
		return 0, 2
	case record.TypeMX:
		return 2, 1
	case record.TypeSRV:
		return 6, 1
	}
	return 0, 0
}

// readName follows pointers, backwards only, and gives the canonical name and the
// offset behind it.
func readName(b []byte, at int) (record.Name, int, error) {
	var wire []byte
	end, least := -1, at
	for {
		if at >= len(b) || len(wire) > 255 {
			return "", 0, errShort
		}
		n := int(b[at])
		switch {
		case n >= 0xc0:
			if at+1 >= len(b) {
				return "", 0, errShort
			}
			if end < 0 {
				end = at + 2
			}
			to := int(binary.BigEndian.Uint16(b[at:])) & 0x3fff
			if to >= least {
				return "", 0, fmt.Errorf("pointer at %d points to %d, expected less than %d", at, to, least)
			}
			at, least = to, to
		case n > 63 || at+1+n > len(b):
			return "", 0, errShort
		default:
			wire = append(wire, b[at:at+1+n]...)
			at += 1 + n
			if n == 0 {
				if end < 0 {
					end = at
				}
				name, _, err := record.NameFromWire(wire)
				return name, end, err
			}
		}
	}
}
