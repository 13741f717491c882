package ratelimit

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// Seed is the secret of the hash: who knew it could choose names and prefixes that
// share a bucket with those of others.
type Seed [16]byte

// key is the seed as SipHash begins with it.
type key [4]uint64

func newKey(seed Seed) key {
	k0, k1 := binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:])
	return key{k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573}
}

// hash is SipHash-1-3 of 18 octets: prefix, name, and two that tell the class and the
// family. One round for a word and three at the end are what languages use for their
// hash tables; nobody sees this hash.
func (k *key) hash(prefix, name uint64, class Class, family uint8) uint64 {
	v0, v1, v2, v3 := k[0], k[1], k[2], k[3]
	words := [6]uint64{prefix, name, 18<<56 | uint64(family)<<8 | uint64(class)} // and three without a word
	for i, m := range words {
		if i == 3 {
			v2 ^= 0xff
		}
		v3 ^= m
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
		v0 ^= m
	}
	return v0 ^ v1 ^ v2 ^ v3
}

// prefix gives of a client that is unmapped the first octets of the client's prefix as a number, and its family.
func (l *Limiter) prefix(client netip.Addr) (uint64, uint8) {
	if client.Is4() {
		a := client.As4()
		return uint64(binary.BigEndian.Uint32(a[:]) & l.mask4), 4
	}
	a := client.As16()
	return binary.BigEndian.Uint64(a[:]) & l.mask6, 6
}
