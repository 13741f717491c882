package record

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Types of zonecast's own, for private use (RFC 6895 §3.1): content of the dataset that
// decides how others are answered and is never answered itself. docs/format/map.md draws
// them. Their numbers are our own choice, away from those that other software took (BIND
// has 65534, PowerDNS 65400 to 65402, Technitium from 65280 on).
const (
	TypeMapBlock Type = 65300 + iota // prefixes and their locations
	TypeMapOrder                     // the PoPs of a location, in order
	TypeMapUse                       // the names that a map holds for
	TypePoP                          // the state of a PoP
	TypeTerms                        // weights of records, and how many are answered
)

// IsOwn tells whether the type is one of zonecast's own: RRsets of it are never in an
// answer, in ANY, or in a zone transfer.
func (t Type) IsOwn() bool { return TypeMapBlock <= t && t <= TypeTerms }

// The RDATA of TypeTerms stands beside the RRsets that it is about, at their owner and
// location (big endian):
//
//	0  u16 type of the RRset
//	2  u8  0: how many are answered; 1: weight of a record
//	3  u16 most records in an answer, from 1 on; or
//	3  u32 weight, then the RDATA of the record
const (
	termsChoose = 0
	termsWeight = 1
	termsHead   = 3
)

// TermsRRset gives the RRset that says what the sets, all of one owner and location, have
// beyond RRsets; false: nothing. A dataset can say weights and Choose; other terms of
// records are an error.
func TermsRRset(sets ...Set) (RRset, bool, error) {
	var out RRset
	var data []Rdata
	for i := range sets {
		s := &sets[i]
		out.Owner, out.Location, out.TTL = s.Owner, s.Location, s.TTL
		head := binary.BigEndian.AppendUint16(nil, uint16(s.Type))
		if s.Choose < 0 || s.Choose > 0xffff {
			return out, false, fmt.Errorf("%s: at most %d answers, expected 0 (all) to 65535", s.Key, s.Choose)
		}
		if s.Choose > 0 {
			data = append(data, Rdata(binary.BigEndian.AppendUint16(append(slices.Clone(head), termsChoose), uint16(s.Choose))))
		}
		for k, t := range s.Terms {
			if t.TTL != s.TTL || t.From != 0 || t.Until != 0 {
				return out, false, fmt.Errorf("%s: record %d has a TTL or times of its own, expected those of its RRset: a dataset says weights only", s.Key, k+1)
			}
			if t.Weight != 1 {
				data = append(data, Rdata(binary.BigEndian.AppendUint32(append(slices.Clone(head), termsWeight), t.Weight))+s.Data[k])
			}
		}
	}
	if len(data) == 0 {
		return out, false, nil
	}
	r := NewRRset(out.Owner, TypeTerms, out.TTL, data...)
	r.Location = out.Location
	return r, true, r.Check()
}

// CheckTerms tells why RDATA is none of TypeTerms, or nil.
func CheckTerms(rd Rdata) error {
	_, kind, rest, err := cutTerms(rd)
	switch {
	case err != nil:
		return err
	case kind == termsChoose && (len(rest) != 2 || rest == "\x00\x00"):
		return fmt.Errorf("terms: most answers have %d octets, expected 2 and not zero", len(rest))
	case kind == termsWeight && len(rest) < 4:
		return fmt.Errorf("terms: a weight has %d octets, expected 4 and the record's RDATA", len(rest))
	case kind > termsWeight:
		return fmt.Errorf("terms: kind %d, expected 0 (most answers) or 1 (weight)", kind)
	}
	return nil
}

func cutTerms(rd Rdata) (t Type, kind byte, rest Rdata, err error) {
	if len(rd) < termsHead {
		return 0, 0, "", fmt.Errorf("terms: %d octets, expected a type and a kind", len(rd))
	}
	return Type(rd[0])<<8 | Type(rd[1]), rd[2], rd[termsHead:], nil
}

// With gives the RRset with what terms, RDATA of TypeTerms at its owner and location, say
// of it. Terms of records that are not there, and malformed ones, do nothing; of several
// for one thing the last counts.
func (r RRset) With(terms []Rdata) Set {
	s := Set{RRset: r}
	for _, rd := range terms {
		t, kind, rest, err := cutTerms(rd)
		if err != nil || t != r.Type || CheckTerms(rd) != nil {
			continue
		}
		if kind == termsChoose {
			s.Choose = int(rest[0])<<8 | int(rest[1])
			continue
		}
		i, found := slices.BinarySearch(r.Data, rest[4:])
		if !found {
			continue
		}
		if s.Terms == nil {
			s.Terms = make([]Terms, len(r.Data))
			for k := range s.Terms {
				s.Terms[k] = Terms{TTL: r.TTL, Weight: 1}
			}
		}
		s.Terms[i].Weight = binary.BigEndian.Uint32([]byte(rest[:4]))
	}
	return s
}
