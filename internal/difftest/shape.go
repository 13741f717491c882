package difftest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// shape is a response in a form in which equal ones are equal octets, whatever the
// order, compression and case of what came. It is decode for a million messages: its
// memory is used again, and nothing is made of it that people read.
type shape struct {
	size     int // octets of the message
	flags    uint16
	question []byte // as it came
	edns     bool
	optFlags uint32 // the TTL of the OPT: upper rcode, version, DO
	sections [3][]span
	arena    []byte // owner, type, class, TTL, RDATA, names without compression
}

// span is a record in the arena.
type span struct{ from, to int }

func (s *shape) at(x span) []byte { return s.arena[x.from:x.to] }

func (s *shape) rcode() int { return int(s.flags&15) | int(s.optFlags>>24)<<4 }

func (s *shape) truncated() bool { return s.flags&flagTC != 0 }

const (
	flagAA = 1 << 10
	flagTC = 1 << 9
)

// read takes a message apart and puts each section in order.
func (s *shape) read(b []byte) error {
	*s = shape{size: len(b), sections: [3][]span{s.sections[0][:0], s.sections[1][:0], s.sections[2][:0]}, arena: s.arena[:0]}
	if len(b) < 12 {
		return errShort
	}
	s.flags = binary.BigEndian.Uint16(b[2:])
	at := 12
	for range binary.BigEndian.Uint16(b[4:]) {
		end, err := s.name(b, at)
		if err != nil {
			return err
		}
		at = end + 4
	}
	if at > len(b) {
		return errShort
	}
	s.question = b[12:at]
	for i := range s.sections {
		for range binary.BigEndian.Uint16(b[6+2*i:]) {
			end, err := s.record(b, at, i)
			if err != nil {
				return err
			}
			at = end
		}
		slices.SortFunc(s.sections[i], func(x, y span) int { return bytes.Compare(s.at(x), s.at(y)) })
	}
	return nil
}

func (s *shape) record(b []byte, at, section int) (int, error) {
	from := len(s.arena)
	at, err := s.name(b, at)
	if err != nil {
		return 0, err
	}
	if len(b) < at+10 {
		return 0, errShort
	}
	t := record.Type(binary.BigEndian.Uint16(b[at:]))
	end := at + 10 + int(binary.BigEndian.Uint16(b[at+8:]))
	if len(b) < end {
		return 0, errShort
	}
	if t == record.TypeOPT {
		s.edns, s.optFlags = true, binary.BigEndian.Uint32(b[at+4:])
		s.arena = s.arena[:from]
		return end, nil
	}
	s.arena = append(s.arena, b[at:at+8]...)
	at += 10
	before, names := layout(t)
	if at+before > end {
		names, before = 0, 0
	}
	if names > 0 {
		s.arena = append(s.arena, b[at:at+before]...)
		at += before
	}
	for range names {
		if at, err = s.name(b, at); err != nil {
			return 0, err
		}
	}
	if at > end {
		return 0, errShort
	}
	s.arena = append(s.arena, b[at:end]...)
	s.sections[section] = append(s.sections[section], span{from, len(s.arena)})
	return end, nil
}

// name appends the name at that offset in lower case and gives the offset behind it.
func (s *shape) name(b []byte, at int) (int, error) {
	end, least, start := -1, at, len(s.arena)
	for {
		if at >= len(b) || len(s.arena)-start > 255 {
			return 0, errShort
		}
		n := int(b[at])
		switch {
		case n >= 0xc0:
			if at+1 >= len(b) {
				return 0, errShort
			}
			if end < 0 {
				end = at + 2
			}
			to := int(binary.BigEndian.Uint16(b[at:])) & 0x3fff
			if to >= least {
				return 0, fmt.Errorf("pointer at %d points to %d, expected less than %d", at, to, least)
			}
			at, least = to, to
		case n > 63 || at+1+n > len(b):
			return 0, errShort
		default:
			for _, c := range b[at : at+1+n] {
				if c >= 'A' && c <= 'Z' { // no length octet is
					c += 'a' - 'A'
				}
				s.arena = append(s.arena, c)
			}
			at += 1 + n
			if n > 0 {
				continue
			}
			if len(s.arena)-start > 255 {
				return 0, errShort
			}
			if end < 0 {
				end = at
			}
			return end, nil
		}
	}
}

// same tells that two responses say the same: what differences would find nothing in.
// When it is false they may still do.
func (s *shape) same(o *shape) bool {
	if s.flags != o.flags || s.edns != o.edns || s.optFlags != o.optFlags || !bytes.Equal(s.question, o.question) {
		return false
	}
	if s.truncated() {
		return true
	}
	referral := s.flags&flagAA == 0 && len(s.sections[0]) == 0 && len(s.sections[1]) > 0
	return s.sameSection(o, 0) && s.sameSection(o, 1) && (!referral || s.sameSection(o, 2))
}

func (s *shape) sameSection(o *shape, i int) bool {
	return slices.EqualFunc(s.sections[i], o.sections[i], func(x, y span) bool { return bytes.Equal(s.at(x), o.at(y)) })
}
