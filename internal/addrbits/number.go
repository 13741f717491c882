package addrbits

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Number is an address, the first bit the highest. An IPv4 address is the first 32 bits.
type Number struct{ Hi, Lo uint64 }

// Of is the number of an address. A mapped IPv4 address is one of IPv6.
func Of(a netip.Addr) Number {
	if a.Is4() {
		b := a.As4()
		return Number{uint64(binary.BigEndian.Uint32(b[:])) << 32, 0}
	}
	b := a.As16()
	return Number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// Addr is the address of the family with so many bits, 32 or 128.
func (n Number) Addr(width int) netip.Addr {
	if width == 32 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n.Hi>>32))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], n.Hi)
	binary.BigEndian.PutUint64(b[8:], n.Lo)
	return netip.AddrFrom16(b)
}

// Less tells whether n is before m.
func (n Number) Less(m Number) bool { return n.Hi < m.Hi || n.Hi == m.Hi && n.Lo < m.Lo }

// Common is how many bits n and m begin with are equal, 0 to 128.
func (n Number) Common(m Number) int {
	if x := n.Hi ^ m.Hi; x != 0 {
		return bits.LeadingZeros64(x)
	}
	return 64 + bits.LeadingZeros64(n.Lo^m.Lo)
}

// Mask clears the bits behind the first length.
func (n Number) Mask(length int) Number {
	switch {
	case length <= 0:
		return Number{}
	case length < 64:
		return Number{n.Hi &^ (1<<(64-length) - 1), 0}
	case length < 128:
		return Number{n.Hi, n.Lo &^ (1<<(128-length) - 1)}
	}
	return n
}

// Bit sets the bit behind the first length ones, 0 to 127.
func (n Number) Bit(length int) Number {
	if length < 64 {
		n.Hi |= 1 << (63 - length)
	} else {
		n.Lo |= 1 << (127 - length)
	}
	return n
}

// After is the first number behind the prefix of n and length; over: there is none.
func (n Number) After(length int) (end Number, over bool) {
	var carry uint64
	if length <= 64 {
		if length == 0 {
			return Number{}, true
		}
		end.Hi, carry = bits.Add64(n.Hi, 1<<(64-length), 0)
		return end, carry != 0
	}
	end.Lo, carry = bits.Add64(n.Lo, 1<<(128-length), 0)
	end.Hi, carry = bits.Add64(n.Hi, 0, carry)
	return end, carry != 0
}
