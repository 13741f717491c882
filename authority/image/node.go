package image

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"github.com/zonecast/zonecast/record"
)

// Node is a name that exists: it owns RRsets, or a name below it does (RFC 4592
// §2.2.2: empty non-terminals exist). nil is no node. Its octets (integers little
// endian, but for what goes out as it lies here):
//
//	0        u8   n, octets of the name
//	1        u8   Traits
//	2        u16  s, RRsets
//	4        n    name, canonical wire form
//	4+n      u32  children: names that exist and have one label more; if Parent
//	         u32  TTL of the SOA in negative responses; if Apex
//	         s × u16      types, ascending; of one type, locations ascend
//	         (s+1) × u16  where each RRset begins, and where the node ends, from its
//	                      start; × u32 if Wide
//	         RRsets       see Set
type Node []byte

// Traits is what a lookup must know of a node that it passes.
type Traits uint8

// The traits.
const (
	Apex    Traits = 1 << iota // owns a SOA
	Cut                        // owns NS and is, for some clients or at some times, no apex
	DName                      // owns DNAME for everybody
	Parent                     // has children
	HasWild                    // has the child "*"
	Wide                       // is larger than 64 KiB
	Settled                    // set by the builder: in a zone, neither at or below a cut nor below a DNAME
	Located                    // has an RRset that is not for everybody, or whose records have terms
)

const nodeHead = 4

// Name is the node's name in canonical wire form; it lies in the node.
func (n Node) Name() []byte { return n[nodeHead : nodeHead+int(n[0])] }

// Traits gives the node's traits.
func (n Node) Traits() Traits { return Traits(n[1]) }

// Len is the number of RRsets.
func (n Node) Len() int { return int(binary.LittleEndian.Uint16(n[2:])) }

// Children is the number of names that exist one label below.
func (n Node) Children() int {
	if n.Traits()&Parent == 0 {
		return 0
	}
	return int(binary.LittleEndian.Uint32(n[nodeHead+int(n[0]):]))
}

// NegativeTTL is the TTL, in seconds, of the SOA in negative responses; the node is
// an apex whose SOA is for everybody.
func (n Node) NegativeTTL() uint32 {
	at := nodeHead + int(n[0])
	if n.Traits()&Parent != 0 {
		at += 4
	}
	return binary.LittleEndian.Uint32(n[at:])
}

// directory is where the types stand.
func (n Node) directory() int {
	at := nodeHead + int(n[0])
	t := n.Traits()
	if t&Parent != 0 {
		at += 4
	}
	if t&Apex != 0 {
		at += 4
	}
	return at
}

// Find gives the first RRset of type t, whomever it is for; nil when there is none.
func (n Node) Find(t record.Type) Set {
	at := n.directory()
	s := n.Len()
	types := n[at : at+2*s]
	for i := 0; i+1 < len(types); i += 2 {
		if record.Type(types[i])|record.Type(types[i+1])<<8 == t {
			return n.body(at+2*s, i/2)
		}
	}
	return nil
}

// guides tells whether the node has RRsets of maps or PoPs.
func (n Node) guides() bool {
	at := n.directory()
	types := n[at : at+2*n.Len()]
	for i := len(types) - 2; i >= 0; i -= 2 { // they are among the last
		t := record.Type(types[i]) | record.Type(types[i+1])<<8
		if t < record.TypeMapBlock {
			return false
		}
		if t.IsOwn() && t != record.TypeTerms {
			return true
		}
	}
	return false
}

// Set gives the RRset of type t that is for everybody; nil when there is none.
func (n Node) Set(t record.Type) Set {
	s := n.Find(t) // no location sorts before all others
	if s != nil && s.located() {
		return nil
	}
	return s
}

// At gives the i-th RRset and its type.
func (n Node) At(i int) (record.Type, Set) {
	at := n.directory()
	return record.Type(binary.LittleEndian.Uint16(n[at+2*i:])), n.body(at+2*n.Len(), i)
}

// body is the i-th RRset, where the ends table stands at the offset ends.
func (n Node) body(ends, i int) Set {
	if n.Traits()&Wide != 0 {
		e := n[ends+4*i:]
		return Set(n[binary.LittleEndian.Uint32(e):binary.LittleEndian.Uint32(e[4:])])
	}
	e := n[ends+2*i : ends+2*i+4]
	return Set(n[binary.LittleEndian.Uint16(e):binary.LittleEndian.Uint16(e[2:])])
}

// Layout is where names stand in the RDATA of a type.
type Layout uint8

// The layouts. Only those of RFC 1035 are compressed, since receivers know no others
// to be (RFC 3597 §4).
const (
	Opaque    Layout = iota // no names that matter
	OneName                 // NS, CNAME, PTR and the like: a name
	MXName                  // 2 octets, a name
	TwoNames                // SOA, MINFO: two names, then whatever
	DNameName               // DNAME: a name, never compressed
	SRVName                 // SRV: 6 octets, a name, never compressed
	SVCName                 // SVCB, HTTPS: 2 octets, a name, never compressed, whatever
)

// Set is an RRset as it is answered. nil is none. Its octets:
//
//	0   u8   flags: bits 0 to 2 Layout, then Many, Local, Special
//	    u8 length, octets   location; if Local
//	    u16      c, records; if Many; else c is 1
//	    u16      how many are chosen, zero is all; if Special
//	    c × 24   terms: u32 TTL, u32 weight, i64 from, i64 until; if Special
//	    c × shares   if the layout is compressed: how many octets at the end of the
//	             name also end another one, the root's one included, u8 each: the owner,
//	             and if Many the name of the record before (of the last one for the
//	             first); TwoNames: of the first name the owner, of the second the owner
//	             and the first name
//	    8        type u16, class u16, TTL u32: as they go out, big endian
//	    c ×      u16 length, big endian, RDATA uncompressed
//
// A single record without names is so one run of octets that goes out as it is.
type Set []byte

const (
	layoutMask   = 7
	flagMany     = 1 << 3
	flagLocal    = 1 << 4
	flagSpecial  = 1 << 5
	termsSize    = 24
	wireHead     = 8 // type, class, TTL
	maxTableSets = 0xffff
)

func (s Set) located() bool { return s[0]&flagLocal != 0 }

// Plain gives the octets from type to RDATA of a set of one record without terms,
// location or names to compress, and whether it is one.
func (s Set) Plain() ([]byte, bool) { return s[1:], s[0] == 0 }

// Name gives the one record of an RRset that is nothing but a name to compress
// (CNAME, PTR, ...): the octets from type to RDATA, and how many of the target's
// last octets are the owner's.
func (s Set) Name() (wire []byte, shared int, ok bool) {
	if s[0] != byte(OneName) {
		return nil, 0, false
	}
	return s[2:], int(s[1]), true
}

// Location is for whom the set is; empty is everybody.
func (s Set) Location() []byte {
	if !s.located() {
		return nil
	}
	return s[2 : 2+int(s[1])]
}

// Dressed tells whether the set has terms, or says how many records are answered.
func (s Set) Dressed() bool { return s[0]&flagSpecial != 0 }

// View is a Set taken apart.
type View struct {
	Layout   Layout
	Count    int
	Choose   int    // how many are answered; zero is all
	Location []byte // empty: everybody
	Type     record.Type
	TTL      uint32
	Shares   []byte // see Set
	terms    []byte // nil: none
	wire     []byte // from type on
}

// count is the number of records.
func (s Set) count() int {
	if s[0]&flagMany == 0 {
		return 1
	}
	at := 1
	if s[0]&flagLocal != 0 {
		at += 1 + int(s[at])
	}
	return int(binary.LittleEndian.Uint16(s[at:]))
}

// View takes the set apart.
func (s Set) View() View {
	f := s[0]
	v := View{Layout: Layout(f & layoutMask), Count: 1}
	at := 1
	if f&flagLocal != 0 {
		v.Location = s[at+1 : at+1+int(s[at])]
		at += 1 + int(s[at])
	}
	if v.Count = s.count(); f&flagMany != 0 {
		at += 2
	}
	if f&flagSpecial != 0 {
		v.Choose = int(binary.LittleEndian.Uint16(s[at:]))
		v.terms = s[at+2 : at+2+termsSize*v.Count]
		at += 2 + termsSize*v.Count
	}
	n := v.Layout.shares(f) * v.Count
	v.Shares = s[at : at+n]
	v.wire = s[at+n:]
	v.Type = record.Type(binary.BigEndian.Uint16(v.wire))
	v.TTL = binary.BigEndian.Uint32(v.wire[4:])
	return v
}

// shares is how many octets of shares a record has in a set with the given flags.
func (l Layout) shares(flags byte) int {
	switch {
	case l == TwoNames:
		return 3
	case l != OneName && l != MXName:
		return 0
	case flags&flagMany != 0:
		return 2
	}
	return 1
}

// HasTerms tells whether records have terms of their own.
func (v *View) HasTerms() bool { return v.terms != nil }

// Terms gives those of the i-th record.
func (v *View) Terms(i int) record.Terms {
	if v.terms == nil {
		return record.Terms{TTL: v.TTL, Weight: 1}
	}
	t := v.terms[termsSize*i:]
	return record.Terms{
		TTL: binary.LittleEndian.Uint32(t), Weight: binary.LittleEndian.Uint32(t[4:]),
		From: int64(binary.LittleEndian.Uint64(t[8:])), Until: int64(binary.LittleEndian.Uint64(t[16:])),
	}
}

// Head gives type, class and TTL as they go out.
func (v *View) Head() []byte { return v.wire[:wireHead] }

// Records gives the records one after the other, each as u16 length and RDATA:
// take one with Next.
func (v *View) Records() []byte { return v.wire[wireHead:] }

// Next takes the first record off what Records gave.
func Next(records []byte) (rdata, rest []byte) {
	n := 2 + int(binary.BigEndian.Uint16(records))
	return records[2:n], records[n:]
}

// For tells whether the set is for clients at the location or for everybody.
func (v *View) For(location []byte) bool {
	return len(v.Location) == 0 || bytes.Equal(v.Location, location)
}

// layoutOf finds the layout of RDATA: Opaque also when it is not what the type says,
// so that it is carried as it is.
func layoutOf(t record.Type, rd string) Layout {
	switch t {
	case record.TypeNS, 3, 4, record.TypeCNAME, 7, 8, 9, record.TypePTR: // MD, MF, MB, MG, MR
		if isName(rd, 0) == len(rd) {
			return OneName
		}
	case record.TypeMX:
		if isName(rd, 2) == len(rd) {
			return MXName
		}
	case record.TypeSOA, 14: // MINFO
		if m := isName(rd, 0); m > 0 && isName(rd, m) > 0 {
			return TwoNames
		}
	case record.TypeDNAME:
		if isName(rd, 0) == len(rd) {
			return DNameName
		}
	case record.TypeSVCB, record.TypeHTTPS:
		if isName(rd, 2) > 0 {
			return SVCName
		}
	case record.TypeSRV:
		if isName(rd, 6) == len(rd) {
			return SRVName
		}
	}
	return Opaque
}

// isName gives where the uncompressed canonical name at offset i of rd ends; 0 when
// none is there.
func isName(rd string, i int) int {
	for k := i; k < len(rd) && k-i < 255; {
		n := int(rd[k])
		if n == 0 {
			return k + 1
		}
		if n > 63 || k+n >= len(rd) {
			return 0
		}
		for _, c := range []byte(rd[k+1 : k+1+n]) {
			if c >= 'A' && c <= 'Z' {
				return 0
			}
		}
		k += n + 1
	}
	return 0
}

// Target is the name in RDATA that leads on to addresses; nil when the layout has
// none.
func (l Layout) Target(rd []byte) []byte {
	switch l {
	case OneName, DNameName:
		return rd
	case MXName:
		return rd[2:]
	case SRVName:
		return rd[6:]
	case SVCName:
		return rd[2:isName(stringOf(rd), 2)]
	}
	return nil
}

// SharedSuffix is how many octets two canonical names have in common at their ends,
// in whole labels: at least the root's one.
func SharedSuffix(a, b []byte) int { return sharedSuffix(stringOf(a), stringOf(b)) }

func sharedSuffix(a, b string) int {
	best := 1
	for i := 0; i < len(a) && a[i] != 0; i += int(a[i]) + 1 {
		n := len(a) - i
		if n > len(b) || a[i:] != b[len(b)-n:] {
			continue
		}
		for k := 0; k <= len(b)-n; k += int(b[k]) + 1 { // at a label of b, too?
			if k == len(b)-n {
				return n
			}
		}
	}
	return best
}

// stringOf is b as a string that shares its octets: b is not written while it lives.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
