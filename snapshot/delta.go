package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/zonecast/zonecast/record"
)

// MaxDelta bounds an encoded delta, in octets: 256 MiB, about three million
// RRsets. A full delta of a larger dataset cannot be made.
const MaxDelta = 256 << 20

// Delta leads from version Version-1 of a dataset to Version. It is treated as
// immutable.
type Delta struct {
	Dataset string
	Version uint64
	Time    int64 // unix milliseconds when it was made
	// Full means that Put is the whole dataset and that the base's RRsets are
	// void. BaseDigest is then zero and Remove empty.
	Full       bool
	BaseDigest Digest // before
	Digest     Digest // after
	Prev       Chain  // of the delta that made Version-1
	// Put has the RRsets that are new or replaced, Remove the keys that go; each
	// in canonical order without duplicates, and no key in both.
	Put    []record.RRset
	Remove []record.Key
}

// DeltaMagic is how an encoded delta begins; it ends in the version of the format.
const DeltaMagic = "zcdelta\x01"

// deltaFull is the flag of Delta.Full. No other is defined.
const deltaFull = 0x01

// Octets of the fixed parts: flags 1, length of the name 1; version 8, time 8,
// three hashes of 32, two counts of 4; the checksum at the end.
const (
	deltaFixed    = 8 + 8 + 3*32 + 4 + 4
	deltaChecksum = 4
)

// Octets of the smallest RRset (root owner 1, type 2, location 1, TTL 4, count 2,
// one record 2) and key. Counts are checked with them before memory is taken.
const (
	minRRset = 12
	minKey   = 4
)

// castagnoli is the polynomial of the checksums that find damage; what must not
// be forged is hashed with SHA-256.
func castagnoli(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// Check tells why the delta breaks a rule of the format, or nil.
func (d *Delta) Check() error {
	if err := CheckName(d.Dataset); err != nil {
		return fmt.Errorf("delta: %w", err)
	}
	if d.Version == 0 {
		return fmt.Errorf("delta of %s has version 0, expected 1 or more", d.Dataset)
	}
	if d.Full && (len(d.Remove) > 0 || d.BaseDigest != Digest{}) {
		return d.errorf("is full but removes %d RRsets from the base %s, expected none and zero", len(d.Remove), d.BaseDigest)
	}
	size := len(DeltaMagic) + 2 + len(d.Dataset) + deltaFixed + deltaChecksum
	for i, r := range d.Put {
		if err := r.Check(); err != nil {
			return d.errorf("puts %w", err)
		}
		if i > 0 && d.Put[i-1].Key.Compare(r.Key) >= 0 {
			return d.errorf("puts %s after %s, expected canonical order without duplicates", r.Key, d.Put[i-1].Key)
		}
		size += sizeOfKey(r.Key) + 6
		for _, data := range r.Data {
			size += 2 + len(data)
		}
	}
	put := 0
	for i, k := range d.Remove {
		if k.Owner == "" || !k.Type.IsData() || len(k.Location) > 255 {
			return d.errorf("removes %s, which cannot be in a dataset", k)
		}
		if i > 0 && d.Remove[i-1].Compare(k) >= 0 {
			return d.errorf("removes %s after %s, expected canonical order without duplicates", k, d.Remove[i-1])
		}
		for put < len(d.Put) && d.Put[put].Key.Compare(k) < 0 {
			put++
		}
		if put < len(d.Put) && d.Put[put].Key == k {
			return d.errorf("puts and removes %s, expected one of them", k)
		}
		size += sizeOfKey(k)
	}
	if size > MaxDelta {
		return d.errorf("has %d octets, at most %d: split the change", size, MaxDelta)
	}
	return nil
}

func sizeOfKey(k record.Key) int { return len(k.Owner) + 3 + len(k.Location) }

// errorf puts which delta it is before the message.
func (d *Delta) errorf(format string, args ...any) error {
	return fmt.Errorf("delta %d of %s "+format, append([]any{d.Version, d.Dataset}, args...)...)
}

// Encode gives the octets of docs/format/delta.md. It fails when the delta breaks
// a rule of the format, so that what is encoded can be decoded.
func (d *Delta) Encode() ([]byte, error) {
	if err := d.Check(); err != nil {
		return nil, err
	}
	return d.append(nil), nil
}

// append appends the encoding (big endian):
//
//	magic        8 octets  "zcdelta" 01
//	flags        u8        bit 0: full; the others 0
//	dataset      u8 length, octets
//	version      u64
//	time         i64       unix milliseconds
//	base digest  32 octets
//	digest       32 octets
//	prev         32 octets
//	puts         u32       number of RRsets
//	removes      u32       number of keys
//	RRsets       as in docs/format/rrset.md
//	keys         owner, type and location as in docs/format/rrset.md
//	checksum     u32       CRC-32C of everything before
func (d *Delta) append(b []byte) []byte {
	start := len(b)
	b = append(b, DeltaMagic...)
	flags := byte(0)
	if d.Full {
		flags = deltaFull
	}
	b = append(b, flags, byte(len(d.Dataset)))
	b = append(b, d.Dataset...)
	b = binary.BigEndian.AppendUint64(b, d.Version)
	b = binary.BigEndian.AppendUint64(b, uint64(d.Time))
	b = append(b, d.BaseDigest[:]...)
	b = append(b, d.Digest[:]...)
	b = append(b, d.Prev[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(d.Put)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(d.Remove)))
	for _, r := range d.Put {
		b = r.AppendBinary(b)
	}
	for _, k := range d.Remove {
		b = k.AppendBinary(b)
	}
	return binary.BigEndian.AppendUint32(b, castagnoli(b[start:]))
}

// DecodeDelta reads what Encode wrote. The result passes Check and encodes to
// the same octets; it keeps no reference to b.
func DecodeDelta(b []byte) (*Delta, error) {
	d, err := decodeDelta(b)
	if err != nil {
		return nil, fmt.Errorf("decode delta: %w", err)
	}
	return d, nil
}

func decodeDelta(b []byte) (*Delta, error) {
	if len(b) > MaxDelta {
		return nil, fmt.Errorf("%d octets, at most %d", len(b), MaxDelta)
	}
	head := len(DeltaMagic) + 2
	if len(b) < head+deltaFixed+deltaChecksum {
		return nil, fmt.Errorf("%d octets, expected %d or more", len(b), head+deltaFixed+deltaChecksum)
	}
	if !bytes.HasPrefix(b, []byte(DeltaMagic)) {
		return nil, fmt.Errorf("starts with %q, expected %q (delta format 1)", b[:len(DeltaMagic)], DeltaMagic)
	}
	body := b[:len(b)-deltaChecksum]
	if got, want := castagnoli(body), binary.BigEndian.Uint32(b[len(body):]); got != want {
		return nil, fmt.Errorf("CRC-32C of %d octets is %08x, expected %08x", len(body), got, want)
	}
	flags, nameLen := b[8], int(b[9])
	if flags&^deltaFull != 0 {
		return nil, fmt.Errorf("flags are 0x%02x, expected 0x00 or 0x01", flags)
	}
	if len(body) < head+nameLen+deltaFixed {
		return nil, fmt.Errorf("%d octets end within the fields behind the name, expected %d or more", len(body), head+nameLen+deltaFixed)
	}
	d := &Delta{Full: flags == deltaFull, Dataset: string(body[head : head+nameLen])}
	rest := body[head+nameLen:]
	d.Version = binary.BigEndian.Uint64(rest)
	d.Time = int64(binary.BigEndian.Uint64(rest[8:]))
	d.BaseDigest, d.Digest, d.Prev = Digest(rest[16:48]), Digest(rest[48:80]), Chain(rest[80:112])
	puts, removes := int(binary.BigEndian.Uint32(rest[112:])), int(binary.BigEndian.Uint32(rest[116:]))
	rest = rest[deltaFixed:]
	if need := puts*minRRset + removes*minKey; need > len(rest) {
		return nil, fmt.Errorf("%d RRsets and %d keys announced, they need %d octets or more and %d are left", puts, removes, need, len(rest))
	}
	offset := func() int { return len(body) - len(rest) }
	var err error
	if puts > 0 {
		d.Put = make([]record.RRset, puts)
	}
	for i := range d.Put {
		at := offset()
		if d.Put[i], rest, err = record.DecodeRRset(rest); err != nil {
			return nil, fmt.Errorf("offset %d: RRset %d of %d: %w", at, i+1, puts, err)
		}
	}
	if removes > 0 {
		d.Remove = make([]record.Key, removes)
	}
	for i := range d.Remove {
		at := offset()
		if d.Remove[i], rest, err = record.DecodeKey(rest); err != nil {
			return nil, fmt.Errorf("offset %d: key %d of %d: %w", at, i+1, removes, err)
		}
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("offset %d: %d octets are left behind the last key", offset(), len(rest))
	}
	return d, d.Check()
}

// Chain is SHA-256 of the encoded delta. A signature on it signs all deltas up to
// this one. The delta must pass Check.
func (d *Delta) Chain() Chain { return ChainOf(d.append(nil)) }

// ChainOf is the Chain of an encoded delta.
func ChainOf(encoded []byte) Chain { return sha256.Sum256(encoded) }
