package data

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"

	"github.com/zonecast/zonecast/internal/hamt"
	"github.com/zonecast/zonecast/record"
)

// View is one version of a dataset. The zero value is not usable: see New.
type View struct {
	names hamt.Map[Node]
	seed  maphash.Seed // of the hashes of names; all Views that share nodes share it
	zones int
	sets  int
}

// Serials gives the serial to answer for the zone with the given apex, and false
// to answer the one in the SOA record.
type Serials func(apex record.Name) (uint32, bool)

// New builds a View of RRsets in any order. Of two with one key the later holds.
func New(sets iter.Seq[record.RRset], serial Serials) *View {
	v := &View{seed: maphash.MakeSeed()}
	e := v.edit()
	for r := range sets {
		e.put(r)
	}
	return e.finish(e.apexes, serial)
}

// Zones is the number of zones.
func (v *View) Zones() int { return v.zones }

// Sets is the number of RRsets.
func (v *View) Sets() int { return v.sets }

// Node is a name that exists.
type Node struct {
	Name     record.Name
	zone     *Zone          // not nil: the name is the apex of this zone
	sets     []record.RRset // by type, then location; never changed in place
	children int            // names that exist and have one label more
	traits   trait
}

// trait is what a lookup must know of a node it passes.
type trait uint8

const (
	isCut    trait = 1 << iota // owns NS and is no apex
	hasDNAME                   // owns DNAME
)

// Zone is what answers need to know of a zone.
type Zone struct {
	Apex record.Name
	// SOA as it is answered, serial included.
	SOA record.RRset
	// NegativeTTL is the TTL, in seconds, of the SOA in a negative response: the
	// smaller of its own and its MINIMUM field (RFC 2308 §3).
	NegativeTTL uint32
}

// Set gives the RRset of type t for clients of no particular location, or nil.
// It is the one place where a client's location will choose.
func (n *Node) Set(t record.Type) *record.RRset {
	for i := range n.sets {
		if s := &n.sets[i]; s.Type == t && s.Location == "" {
			return n.answered(s)
		}
	}
	return nil
}

// Sets gives the RRsets that Set can give, by type.
func (n *Node) Sets(yield func(*record.RRset) bool) {
	for i := range n.sets {
		if s := &n.sets[i]; s.Location == "" && !yield(n.answered(s)) {
			return
		}
	}
}

func (n *Node) answered(s *record.RRset) *record.RRset {
	if s.Type == record.TypeSOA && n.zone != nil {
		return &n.zone.SOA
	}
	return s
}

// Zone is the zone of which the node is the apex, or nil.
func (n *Node) Zone() *Zone { return n.zone }

// hash extends the hash of a name by a label in front (octets without length).
// The label's hash is keyed, so that nobody who names things can make them collide.
func (v *View) hash(parent uint64, label []byte) uint64 {
	hi, lo := bits.Mul64(parent^maphash.Bytes(v.seed, label), 0x9e3779b97f4a7c15)
	return hi ^ lo
}

// rootHash is the hash of the root: any odd-looking constant.
const rootHash = 0x2545f4914f6cdd1d

// newZone makes the zone of the apex n, which owns a SOA.
func newZone(n *Node, serial Serials) *Zone {
	i := slices.IndexFunc(n.sets, func(s record.RRset) bool { return s.Type == record.TypeSOA && s.Location == "" })
	z := &Zone{Apex: n.Name, SOA: n.sets[i], NegativeTTL: n.sets[i].TTL}
	rd := z.SOA.Data[0]
	// MNAME, RNAME, then SERIAL, REFRESH, RETRY, EXPIRE, MINIMUM (RFC 1035 §3.3.13).
	const tail = 5 * 4
	at := len(rd) - tail
	if !isSOA([]byte(rd), at) {
		return z // RDATA that is no SOA is answered as it is, as any unknown data
	}
	z.NegativeTTL = min(z.NegativeTTL, binary.BigEndian.Uint32([]byte(rd[at+16:])))
	if s, ok := serial(n.Name); ok {
		b := []byte(rd)
		binary.BigEndian.PutUint32(b[at:], s)
		z.SOA.Data = []record.Rdata{record.Rdata(b)}
	}
	return z
}

// isSOA tells whether two names fill b up to offset at.
func isSOA(b []byte, at int) bool {
	if at < 2 {
		return false
	}
	_, m, err := record.NameFromWire(b[:at])
	if err != nil {
		return false
	}
	_, r, err := record.NameFromWire(b[m:at])
	return err == nil && m+r == at
}
