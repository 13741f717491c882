package protocol

import "encoding/binary"

// TSIG (RFC 8945): no key is known here yet, so a signed query is told just that, and
// a record that is none is FORMERR.

const (
	classANY = 255
	badKey   = 17 // RFC 8945 §5.2.1
	// Octets of a TSIG's RDATA between the name of the algorithm and the MAC, and
	// behind the MAC.
	beforeMAC = 6 + 2 + 2
	behindMAC = 2 + 2 + 2
)

// signature is where a query's TSIG is.
type signature struct {
	owner     int // offset in the query; 0: there is none
	algorithm int
	mac       int
}

// read takes the TSIG that ends the message, with the owner and the record's type at
// the given offsets (RFC 8945 §4.2). False means FORMERR.
func (s *signature) read(msg []byte, owner, at int) bool {
	const fixed = 10 // type, class, TTL, length
	if binary.BigEndian.Uint16(msg[at+2:]) != classANY || binary.BigEndian.Uint32(msg[at+4:]) != 0 || plainName(msg, owner) != at {
		return false
	}
	s.owner, s.algorithm = owner, at+fixed
	end := plainName(msg, s.algorithm)
	if end < 0 || end+beforeMAC > len(msg) {
		return false
	}
	s.mac = end + beforeMAC
	behind := s.mac + int(binary.BigEndian.Uint16(msg[s.mac-2:]))
	if behind+behindMAC > len(msg) {
		return false
	}
	return behind+behindMAC+int(binary.BigEndian.Uint16(msg[behind+4:])) == len(msg)
}

// plainName is skipName for a name that is not compressed.
func plainName(msg []byte, i int) int {
	end := skipName(msg, i)
	if end > i+1 && msg[end-1] != 0 || end-i > 255 {
		return -1
	}
	for at := i; at < end-1; at += int(msg[at]) + 1 {
		if msg[at] >= pointerMark {
			return -1
		}
	}
	return end
}

// appendTSIG writes the record that tells that the key is unknown. It has no MAC, and
// times of the query, which a client needs not to trust (RFC 8945 §5.3.2).
func (a *answer) appendTSIG() {
	s, msg := &a.q.signature, a.msg
	size := s.mac - s.owner + behindMAC
	if len(a.buf)+size > a.limit {
		a.truncated = true
		return
	}
	behind := s.mac + int(binary.BigEndian.Uint16(msg[s.mac-2:]))
	a.buf = append(a.buf, msg[s.owner:s.algorithm-2]...)
	a.u16(s.mac - s.algorithm + behindMAC)
	a.buf = append(a.buf, msg[s.algorithm:s.mac-2]...)
	a.u16(0)
	a.buf = append(a.buf, msg[behind:behind+2]...) // the original ID
	a.u16(badKey)
	a.u16(0)
	a.additional++
}
