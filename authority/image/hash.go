package image

import (
	"encoding/binary"
	"math/bits"
)

// A Hasher hashes names in canonical wire form, label by label from the root down,
// so that the hashes of all suffixes of a name come from one pass: what a question
// asks is hashed once, whatever has to be looked up for it. It is keyed, so that
// nobody who names things can make names collide.
type Hasher struct{ root, k1, k2 uint64 }

// NewHasher makes the Hasher of a seed.
func NewHasher(seed uint64) Hasher {
	next := func() uint64 { // splitmix64 (Steele, Lea, Flood 2014)
		seed += 0x9e3779b97f4a7c15
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
	return Hasher{next(), next(), next()}
}

// Root is the hash of the root.
func (s *Hasher) Root() uint64 { return s.root }

// Child extends the hash of a name by a label in front; label has no length octet.
func (s *Hasher) Child(parent uint64, label []byte) uint64 {
	return s.join(parent, s.label(label))
}

// Suffixes puts the hashes of a name and of all its suffixes into hash: labels start at the
// first so many of off, the root's octet is at the next one.
func (s *Hasher) Suffixes(hash *[128]uint64, name []byte, off *[128]uint8, labels int) {
	x, end := s.root, int(off[labels])
	hash[labels] = x
	for i := labels - 1; i >= 0; i-- {
		at := int(off[i])
		x = s.join(x, s.label(name[at+1:end]))
		hash[i] = x
		end = at
	}
}

func (s *Hasher) join(parent, label uint64) uint64 {
	hi, lo := bits.Mul64(parent^label, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

// label mixes a label's octets, 16 at a time (wyhash: Wang Yi's multiply-fold).
func (s *Hasher) label(b []byte) uint64 {
	seed := s.k1 ^ uint64(len(b))
	for len(b) > 16 {
		hi, lo := bits.Mul64(binary.LittleEndian.Uint64(b)^s.k2, binary.LittleEndian.Uint64(b[8:])^seed)
		seed = hi ^ lo
		b = b[16:]
	}
	var x, y uint64
	switch n := len(b); {
	case n >= 8:
		x, y = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[n-8:])
	case n >= 4:
		x, y = uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[n-4:]))
	case n > 0:
		x = uint64(b[0])<<16 | uint64(b[n/2])<<8 | uint64(b[n-1])
	}
	hi, lo := bits.Mul64(x^s.k2, y^seed)
	return hi ^ lo
}

// Name hashes a whole name.
func (s *Hasher) Name(name []byte) uint64 {
	var off [128]uint8
	k := 0
	for i := 0; name[i] != 0; i += int(name[i]) + 1 {
		off[k] = uint8(i)
		k++
	}
	h, end := s.root, len(name)-1
	for k--; k >= 0; k-- {
		h = s.join(h, s.label(name[int(off[k])+1:end]))
		end = int(off[k])
	}
	return h
}
