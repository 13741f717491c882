package cookie

import (
	"encoding/binary"
	"math/bits"
)

// state is that of SipHash (Aumasson, Bernstein 2012), as the key alone leaves it.
type state [4]uint64

func newState(key Secret) state {
	k0, k1 := binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:])
	// The words spell "somepseudorandomlygeneratedbytes".
	return state{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
}

// sum is SipHash-2-4 with 64 bits of output.
func (s *state) sum(b []byte) uint64 {
	v0, v1, v2, v3 := s[0], s[1], s[2], s[3]
	last := uint64(len(b)) << 56
	for more := true; more; {
		var m uint64
		if more = len(b) >= 8; more {
			m, b = binary.LittleEndian.Uint64(b), b[8:]
		} else {
			for i, c := range b {
				last |= uint64(c) << (8 * i)
			}
			m = last
		}
		v3 ^= m
		// The round stands here and below in full: as a function it is too large to be
		// inlined, and a third of the time went into passing the state (45 ns to 31 ns).
		for range 2 {
			v0 += v1
			v1 = bits.RotateLeft64(v1, 13) ^ v0
			v0 = bits.RotateLeft64(v0, 32)
			v2 += v3
			v3 = bits.RotateLeft64(v3, 16) ^ v2
			v0 += v3
			v3 = bits.RotateLeft64(v3, 21) ^ v0
			v2 += v1
			v1 = bits.RotateLeft64(v1, 17) ^ v2
			v2 = bits.RotateLeft64(v2, 32)
		}
		v0 ^= m
	}
	v2 ^= 0xff
	for range 4 {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	return v0 ^ v1 ^ v2 ^ v3
}
