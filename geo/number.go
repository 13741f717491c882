package geo

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// number is an address, the first bit the highest: prefixes of IPv4 and IPv6 are the
// same to it.
type number struct{ hi, lo uint64 }

func numberOf(a netip.Addr) number {
	if a.Is4() {
		b := a.As4()
		return number{uint64(binary.BigEndian.Uint32(b[:])) << 32, 0}
	}
	b := a.As16()
	return number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (n number) less(m number) bool { return n.hi < m.hi || n.hi == m.hi && n.lo < m.lo }

// common is how many bits n and m begin with are equal, 0 to 128.
func (n number) common(m number) int {
	if x := n.hi ^ m.hi; x != 0 {
		return bits.LeadingZeros64(x)
	}
	return 64 + bits.LeadingZeros64(n.lo^m.lo)
}

// mask clears the bits behind the first length.
func (n number) mask(length int) number {
	switch {
	case length <= 0:
		return number{}
	case length < 64:
		return number{n.hi &^ (1<<(64-length) - 1), 0}
	case length < 128:
		return number{n.hi, n.lo &^ (1<<(128-length) - 1)}
	}
	return n
}

// after is the first number behind the prefix of n and length; over: there is none.
func (n number) after(length int) (end number, over bool) {
	var carry uint64
	if length <= 64 {
		if length == 0 {
			return number{}, true
		}
		end.hi, carry = bits.Add64(n.hi, 1<<(64-length), 0)
		return end, carry != 0
	}
	end.lo, carry = bits.Add64(n.lo, 1<<(128-length), 0)
	end.hi, carry = bits.Add64(n.hi, 0, carry)
	return end, carry != 0
}

// before is the last address of a family below n, which is not the first.
func (n number) before(family int) number {
	if family == 4 {
		return number{n.hi - 1<<32, 0}
	}
	lo, borrow := bits.Sub64(n.lo, 1, 0)
	return number{n.hi - borrow, lo}
}

// addressOf is the number as an IPv6 address.
func addressOf(n number) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], n.hi)
	binary.BigEndian.PutUint64(b[8:], n.lo)
	return netip.AddrFrom16(b)
}
