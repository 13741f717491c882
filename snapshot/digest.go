package snapshot

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"

	"github.com/zonecast/zonecast/record"
)

// Digest identifies the content of a dataset: the sum modulo 2^256 of HashRRset
// of its RRsets but the freshness records, as a big-endian integer. The zero
// value is the digest of the empty dataset.
type Digest [32]byte

// Chain identifies a history: SHA-256 of an encoded delta, which contains the
// Chain of the delta before it. The zero value is before the first delta.
type Chain [32]byte

// ID names a file by its content: SHA-256 of the whole. The zero value is no file.
type ID [32]byte

// rrsetDomain stands before the encoding of every RRset that is hashed, so that
// no other use of SHA-256 gives the same values.
const rrsetDomain = "zonecast rrset v1\x00"

// HashRRset is the RRset's share of a Digest: SHA-256 of
// "zonecast rrset v1\x00" and the canonical encoding (docs/format/rrset.md).
func HashRRset(r record.RRset) Digest {
	var buf [512]byte
	return sha256.Sum256(r.AppendBinary(append(buf[:0], rrsetDomain...)))
}

// Add is d + e modulo 2^256.
func (d Digest) Add(e Digest) Digest {
	var out Digest
	var carry uint64
	for i := 24; i >= 0; i -= 8 {
		var sum uint64
		sum, carry = bits.Add64(binary.BigEndian.Uint64(d[i:]), binary.BigEndian.Uint64(e[i:]), carry)
		binary.BigEndian.PutUint64(out[i:], sum)
	}
	return out
}

// Sub is d - e modulo 2^256.
func (d Digest) Sub(e Digest) Digest {
	var out Digest
	var borrow uint64
	for i := 24; i >= 0; i -= 8 {
		var diff uint64
		diff, borrow = bits.Sub64(binary.BigEndian.Uint64(d[i:]), binary.BigEndian.Uint64(e[i:]), borrow)
		binary.BigEndian.PutUint64(out[i:], diff)
	}
	return out
}

// IsFreshness tells whether the RRset is a freshness record (DESIGN §8): a TXT
// whose owner's first label is _fresh. It is left out of digests, of zone stamps
// and of Dataset.Content, because it changes without the data changing.
func IsFreshness(k record.Key) bool {
	return k.Type == record.TypeTXT && len(k.Owner) > 7 && k.Owner[:7] == "\x06_fresh"
}

// String is 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// String is 64 lower-case hexadecimal digits.
func (c Chain) String() string { return hex.EncodeToString(c[:]) }

// String is 64 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero tells whether there is no file.
func (id ID) IsZero() bool { return id == ID{} }

// ParseDigest reads what Digest.String writes.
func ParseDigest(s string) (Digest, error) { return parseHex[Digest]("digest", s) }

// ParseChain reads what Chain.String writes.
func ParseChain(s string) (Chain, error) { return parseHex[Chain]("chain", s) }

// ParseID reads what ID.String writes.
func ParseID(s string) (ID, error) { return parseHex[ID]("id", s) }

// parseHex accepts lower case only, so that one value has one text.
func parseHex[T ~[32]byte](what, s string) (T, error) {
	var out [32]byte
	if len(s) != 64 {
		return T{}, fmt.Errorf("%s has %d octets, expected 64 hexadecimal digits", what, len(s))
	}
	if _, err := hex.Decode(out[:], []byte(s)); err != nil || hex.EncodeToString(out[:]) != s {
		return T{}, fmt.Errorf("%s %q is not 64 lower-case hexadecimal digits", what, s)
	}
	return T(out), nil
}

// MarshalText gives the text of String.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// MarshalText gives the text of String.
func (c Chain) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalText gives the text of String.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (d *Digest) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDigest(string(b))
	return err
}

// UnmarshalText reads what MarshalText writes.
func (c *Chain) UnmarshalText(b []byte) (err error) {
	*c, err = ParseChain(string(b))
	return err
}

// UnmarshalText reads what MarshalText writes.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}
