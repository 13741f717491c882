package record

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// Rdata is one RR's RDATA in wire form: names uncompressed, and lower case in the
// types of RFC 4034 §6.2, so that equal data is equal bytes.
type Rdata string

// Location says for which clients an RRset holds. The zero value is everybody;
// otherwise it is an opaque identifier of 1 to 255 octets.
type Location string

// MaxLocation is how many octets a location may have.
const MaxLocation = 255

// Key identifies an RRset in a dataset.
type Key struct {
	Owner    Name
	Type     Type
	Location Location
}

// Compare orders keys: by owner canonically, then type, then location.
func (k Key) Compare(l Key) int {
	if c := k.Owner.Compare(l.Owner); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(k.Type, l.Type), cmp.Compare(k.Location, l.Location))
}

// String is for people: owner, type and, when there is one, the location.
func (k Key) String() string {
	if k.Location == "" {
		return k.Owner.String() + " " + k.Type.String()
	}
	return fmt.Sprintf("%s %s @%q", k.Owner, k.Type, string(k.Location))
}

// RRset is all records of one owner, type and location (RFC 9499 §5). It is
// treated as immutable: whoever changes Data makes a new slice.
type RRset struct {
	Key
	TTL  uint32 // seconds, at most MaxTTL
	Data []Rdata
}

// Limits of an RRset. MaxRRsetSize is in octets of RDATA with 10 octets of RR
// header each and leaves room for header, question and EDNS in the largest DNS
// message (65,535 octets): a larger RRset could never be answered.
const (
	MaxTTL       = 1<<31 - 1 // RFC 2181 §8
	MaxRdata     = 65535     // RFC 1035 §3.2.1
	MaxRRsetSize = 65535 - 600
)

// NewRRset makes an RRset of data in any order, duplicates dropped. The data is
// copied.
func NewRRset(owner Name, t Type, ttl uint32, data ...Rdata) RRset {
	d := slices.Clone(data)
	slices.Sort(d) // octet order of the RDATA, RFC 4034 §6.3
	return RRset{Key: Key{Owner: owner, Type: t}, TTL: ttl, Data: slices.Compact(d)}
}

// Equal tells whether both are the same in every octet.
func (r RRset) Equal(s RRset) bool { return r.SameData(s) && r.TTL == s.TTL }

// SameData is Equal but for the TTL.
func (r RRset) SameData(s RRset) bool { return r.Key == s.Key && slices.Equal(r.Data, s.Data) }

// Check tells why the RRset cannot be in a dataset, or nil.
func (r RRset) Check() error {
	if r.Owner == "" {
		return fmt.Errorf("owner is missing")
	}
	if !r.Type.IsData() {
		return fmt.Errorf("%s: type %s is for questions only and cannot be data", r.Owner, r.Type)
	}
	if r.TTL > MaxTTL {
		return fmt.Errorf("%s: TTL is %d, at most %d (RFC 2181 §8)", r.Key, r.TTL, MaxTTL)
	}
	if len(r.Location) > MaxLocation {
		return fmt.Errorf("%s: location has %d octets, at most %d", r.Key, len(r.Location), MaxLocation)
	}
	if len(r.Data) == 0 {
		return fmt.Errorf("%s: no RDATA, expected at least one record", r.Key)
	}
	size := 0
	for i, d := range r.Data {
		if len(d) > MaxRdata {
			return fmt.Errorf("%s: RDATA of %d octets, at most %d", r.Key, len(d), MaxRdata)
		}
		if i > 0 && d <= r.Data[i-1] {
			return fmt.Errorf("%s: RDATA is not in canonical order without duplicates", r.Key)
		}
		size += len(d) + 12 // compressed owner 2, type 2, class 2, TTL 4, RDLENGTH 2
	}
	if size > MaxRRsetSize {
		return fmt.Errorf("%s: the RRset has %d records and %d octets, at most %d fit a DNS message", r.Key, len(r.Data), size, MaxRRsetSize)
	}
	return nil
}

// AppendBinary appends the canonical encoding, on which digests, snapshots,
// deltas and claims are built (big endian):
//
//	owner      wire form, 1..255 octets
//	type       u16
//	location   u8 length, octets
//	TTL        u32, seconds
//	count      u16, records
//	records    count × (u16 length, RDATA), in canonical order
func (r RRset) AppendBinary(b []byte) []byte {
	b = r.Key.AppendBinary(b)
	b = binary.BigEndian.AppendUint32(b, r.TTL)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Data)))
	for _, d := range r.Data {
		b = binary.BigEndian.AppendUint16(b, uint16(len(d)))
		b = append(b, d...)
	}
	return b
}

// AppendBinary appends owner, type and location as RRset.AppendBinary draws them.
func (k Key) AppendBinary(b []byte) []byte {
	b = append(b, k.Owner...)
	b = binary.BigEndian.AppendUint16(b, uint16(k.Type))
	b = append(b, byte(len(k.Location)))
	return append(b, k.Location...)
}

// DecodeKey reads what Key.AppendBinary wrote and returns the octets behind it.
func DecodeKey(b []byte) (Key, []byte, error) {
	owner, n, err := NameFromWire(b)
	if err != nil {
		return Key{}, nil, err
	}
	if string(owner) != string(b[:n]) {
		return Key{}, nil, fmt.Errorf("owner %s is not in lower case", owner)
	}
	b = b[n:]
	if len(b) < 3 || len(b) < 3+int(b[2]) {
		return Key{}, nil, fmt.Errorf("%s: type and location are cut off", owner)
	}
	k := Key{Owner: owner, Type: Type(binary.BigEndian.Uint16(b)), Location: Location(b[3 : 3+int(b[2])])}
	return k, b[3+int(b[2]):], nil
}

// DecodeRRset reads what RRset.AppendBinary wrote and returns the octets behind
// it. The result passes Check and re-encodes to the same octets.
func DecodeRRset(b []byte) (RRset, []byte, error) {
	k, b, err := DecodeKey(b)
	if err != nil {
		return RRset{}, nil, err
	}
	if len(b) < 6 {
		return RRset{}, nil, fmt.Errorf("%s: TTL and count are cut off", k)
	}
	r := RRset{Key: k, TTL: binary.BigEndian.Uint32(b)}
	count := int(binary.BigEndian.Uint16(b[4:]))
	b = b[6:]
	if len(b) < 2*count {
		return RRset{}, nil, fmt.Errorf("%s: %d records announced, %d octets left", k, count, len(b))
	}
	r.Data = make([]Rdata, 0, count)
	for range count {
		if len(b) < 2 || len(b) < 2+int(binary.BigEndian.Uint16(b)) {
			return RRset{}, nil, fmt.Errorf("%s: RDATA is cut off", k)
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		r.Data = append(r.Data, Rdata(b[2:n]))
		b = b[n:]
	}
	return r, b, r.Check()
}
