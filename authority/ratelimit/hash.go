package ratelimit

import (
	"encoding/binary"
	"net/netip"

	"github.com/dchest/siphash"
)

// Seed is the secret of the hash: who knew it could choose names and prefixes that
// share a bucket with those of others.
type Seed [16]byte

// key is the seed as SipHash takes it.
type key struct{ k0, k1 uint64 }

func newKey(seed Seed) key {
	return key{binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:])}
}

// hash is of the prefix, the name, and what kind of bucket it is.
func (k key) hash(prefix, name uint64, class Class, family uint8) uint64 {
	var b [18]byte
	binary.LittleEndian.PutUint64(b[:], prefix)
	binary.LittleEndian.PutUint64(b[8:], name)
	b[16], b[17] = byte(class), family
	return siphash.Hash(k.k0, k.k1, b[:])
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
