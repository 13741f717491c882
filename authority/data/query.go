package data

import (
	"encoding/binary"
	"net/netip"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/geo"
)

// Query is a name taken apart for look-ups. It is large and meant to be used again;
// the zero value is ready. It is for one goroutine.
type Query struct {
	// What a usual question touches is the beginnings of arrays and the end.
	wild   [255]byte
	hash   [128]uint64   // of the suffix that starts at off
	name   [255 + 9]byte // in canonical form; room to read 8 octets at a time
	off    [128]uint8    // where each label starts; off[labels] is the root's
	len    int
	labels int // the root's not counted: 0 to 127

	// looked: the image of the View that the batch is answered from was asked for the
	// name; near is what image.Image.Near said.
	looked bool
	near   uint64

	// Location and Now are the client's location, empty for none, and the time in
	// unix seconds: they choose between RRsets that are not for everybody or not for
	// ever.
	Location []byte
	Now      int64
	// Varied is set by a look-up that another location might change.
	Varied bool
	// Whole is for a View of a dataset: names and zones are there for all clients alike,
	// and for all times.
	Whole bool
}

// Read takes the uncompressed name at the front of b, in any case, for look-ups in
// v, and gives its length; 0 when there is none that ends in b.
func (q *Query) Read(h *image.Hasher, b []byte) int {
	k, i := 0, 0
	for {
		if i >= len(b) {
			return 0
		}
		n := int(b[i])
		q.off[k] = uint8(i)
		if n == 0 {
			break
		}
		if n > 63 || i+n+1 > 254 { // the root's octet must have room
			return 0
		}
		i += n + 1
		k++
	}
	q.labels, q.len, q.looked, q.Varied = k, i+1, false, false
	lowerInto(q.name[:], b, i+1)
	h.Suffixes(&q.hash, q.name[:i+1], &q.off, k)
	return i + 1
}

// Set takes a name that is valid and canonical.
func (q *Query) Set(h *image.Hasher, name []byte) { q.Read(h, name) }

// Name is the name in canonical form.
func (q *Query) Name() []byte { return q.name[:q.len] }

// Len is the length of the name in octets.
func (q *Query) Len() int { return q.len }

// Locate sets the location of a client; subnet is what it asks for, zero for itself.
// It gives the scope of geo.Place.
func (q *Query) Locate(c *geo.Chart, client netip.Addr, subnet netip.Prefix) uint8 {
	p := c.Locate(q.Name(), q.labels, client, subnet)
	q.Location = p.Location
	return p.Scope
}

// Client tells where a client of a dataset is; subnet is what it asks for, zero for itself.
func (q *Query) Client(g *geo.Guide, client netip.Addr, subnet netip.Prefix) geo.Client {
	return g.Locate(q.Name(), q.labels, client, subnet)
}

// Hash is the name's.
func (q *Query) Hash() uint64 { return q.hash[0] }

// suffix is the name without its first i labels.
func (q *Query) suffix(i int) []byte { return q.name[q.off[i]:q.len] }

// wildcard is "*." before the suffix i, and its hash.
func (q *Query) wildcard(h *image.Hasher, i int) ([]byte, uint64) {
	s := q.suffix(i)
	if len(s)+2 > len(q.wild) {
		return nil, 0
	}
	q.wild[0], q.wild[1] = 1, '*'
	n := 2 + copy(q.wild[2:], s)
	return q.wild[:n], h.Child(q.hash[i], q.wild[1:2])
}

// lowerInto copies n octets of src in lower case to dst, which has room for 8 more.
// Length octets of labels are below 'A' and so never changed.
func lowerInto(dst, src []byte, n int) {
	i := 0
	for ; i < n && i+8 <= len(src); i += 8 {
		x := binary.LittleEndian.Uint64(src[i:])
		// In each octet the high bit of: is it >= 'A', is it > 'Z'; and is it ASCII?
		const ones = 0x0101010101010101
		low := x &^ (0x80 * ones)
		upper := (low + (0x80-'A')*ones) &^ (low + (0x7f-'Z')*ones) &^ x & (0x80 * ones)
		binary.LittleEndian.PutUint64(dst[i:], x|upper>>2)
	}
	for ; i < n; i++ {
		c := src[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		dst[i] = c
	}
}
