package compliance

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// response is a message taken apart.
type response struct {
	id, flags uint16
	rcode     int    // with the upper bits of the OPT
	question  string // octets of the section
	questions int
	sections  [3][]rr // answer, authority, additional; without the OPT
	opt       *edns
	size      int
}

type rr struct {
	owner string // wire form, expanded, as the case comes
	rtype int
	rdata string
}

func (r rr) String() string { return fmt.Sprintf("%q type %d", r.owner, r.rtype) }

type edns struct {
	version, size int
	flags         uint16
	options       map[int]string
	codes         []int // in their order
}

// parse demands a message that is whole: every octet belongs to something, and
// compression points backwards.
func parse(b []byte) (*response, error) {
	if len(b) < headerSize {
		return nil, fmt.Errorf("%d octets, shorter than a header", len(b))
	}
	r := &response{
		id: binary.BigEndian.Uint16(b), flags: binary.BigEndian.Uint16(b[2:]),
		questions: int(binary.BigEndian.Uint16(b[4:])), size: len(b),
	}
	r.rcode = int(r.flags & 0xf)
	at := headerSize
	for range r.questions {
		_, n, err := name(b, at)
		if err != nil {
			return nil, fmt.Errorf("question: %w", err)
		}
		if at = n + 4; at > len(b) {
			return nil, errors.New("question is cut off")
		}
	}
	r.question = string(b[headerSize:at])
	for s := range r.sections {
		for range binary.BigEndian.Uint16(b[6+2*s:]) {
			var err error
			if at, err = r.record(b, at, s); err != nil {
				return nil, fmt.Errorf("%s section: %w", [3]string{"answer", "authority", "additional"}[s], err)
			}
		}
	}
	if at != len(b) {
		return nil, fmt.Errorf("%d octets behind the message", len(b)-at)
	}
	return r, nil
}

// record reads one into section s and gives the offset behind it.
func (r *response) record(b []byte, at, s int) (int, error) {
	owner, n, err := name(b, at)
	if err != nil {
		return 0, err
	}
	if n+10 > len(b) {
		return 0, errors.New("a record is cut off")
	}
	rtype, class := int(binary.BigEndian.Uint16(b[n:])), int(binary.BigEndian.Uint16(b[n+2:]))
	ttl := binary.BigEndian.Uint32(b[n+4:])
	end := n + 10 + int(binary.BigEndian.Uint16(b[n+8:]))
	if end > len(b) {
		return 0, errors.New("RDATA is cut off")
	}
	rdata := b[n+10 : end]
	if rtype != typeOPT {
		r.sections[s] = append(r.sections[s], rr{owner, rtype, string(rdata)})
		return end, nil
	}
	switch {
	case s != 2:
		return 0, errors.New("it has an OPT")
	case r.opt != nil:
		return 0, errors.New("it has two OPT")
	case owner != "\x00":
		return 0, errors.New("the owner of the OPT is not the root")
	}
	r.rcode |= int(ttl>>24) << 4
	r.opt = &edns{version: int(ttl >> 16 & 0xff), size: class, flags: uint16(ttl), options: map[int]string{}}
	return end, r.opt.read(rdata)
}

func (e *edns) read(b []byte) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return errors.New("an EDNS option is cut off")
		}
		code, n := int(binary.BigEndian.Uint16(b)), 4+int(binary.BigEndian.Uint16(b[2:]))
		if n > len(b) {
			return errors.New("an EDNS option is cut off")
		}
		e.codes = append(e.codes, code)
		e.options[code] = string(b[4:n])
		b = b[n:]
	}
	return nil
}

// name expands the name at offset at and gives the offset behind it.
func name(b []byte, at int) (expanded string, next int, err error) {
	for limit := at; ; {
		if at >= len(b) {
			return "", 0, errors.New("a name is cut off")
		}
		c := int(b[at])
		switch {
		case c == 0:
			return expanded + "\x00", max(next, at+1), nil
		case c < 64 && at+1+c <= len(b):
			expanded += string(b[at : at+1+c])
			at += 1 + c
			if len(expanded) > 254 {
				return "", 0, errors.New("a name has more than 255 octets")
			}
		case c >= 0xc0 && at+2 <= len(b):
			to := int(binary.BigEndian.Uint16(b[at:]) & 0x3fff)
			if to >= limit {
				return "", 0, errors.New("a compressed name does not point backwards")
			}
			if next == 0 {
				next = at + 2
			}
			at, limit = to, to
		default:
			return "", 0, errors.New("a name is cut off or has an unknown label")
		}
	}
}
