package ortc

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// number is an address, its first bit the highest, whatever its family.
type number struct{ hi, lo uint64 }

func numberOf(a netip.Addr) number {
	if a.Is4() {
		b := a.As4()
		return number{uint64(binary.BigEndian.Uint32(b[:])) << 32, 0}
	}
	b := a.As16()
	return number{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// addr is the address of the family with so many bits.
func (n number) addr(width int) netip.Addr {
	if width == 32 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(n.hi>>32))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], n.hi)
	binary.BigEndian.PutUint64(b[8:], n.lo)
	return netip.AddrFrom16(b)
}

func (n number) less(m number) bool { return n.hi < m.hi || n.hi == m.hi && n.lo < m.lo }

// bit sets the bit behind the first length ones.
func (n number) bit(length int) number {
	if length < 64 {
		n.hi |= 1 << (63 - length)
	} else {
		n.lo |= 1 << (127 - length)
	}
	return n
}

// after is the first number behind the prefix of n and length; over: there is none.
func (n number) after(length int) (end number, over bool) {
	var carry uint64
	if length == 0 {
		return number{}, true
	}
	if length <= 64 {
		end.hi, carry = bits.Add64(n.hi, 1<<(64-length), 0)
		return end, carry != 0
	}
	end.lo, carry = bits.Add64(n.lo, 1<<(128-length), 0)
	end.hi, carry = bits.Add64(n.hi, 0, carry)
	return end, carry != 0
}
