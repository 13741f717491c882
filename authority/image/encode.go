package image

import (
	"encoding/binary"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// Body is one RRset of a node to encode.
type Body struct {
	Type record.Type
	Set  Set
}

// AppendSet appends the Set of an RRset with its terms: not empty, RDATA canonical.
// owner is the name it will stand at.
func AppendSet(b []byte, owner record.Name, s *record.Set) []byte {
	layout := layoutOf(s.Type, string(s.Data[0]))
	for _, rd := range s.Data[1:] {
		if layoutOf(s.Type, string(rd)) != layout {
			layout = Opaque
		}
	}
	at := len(b)
	b = append(b, byte(layout))
	if s.Location != "" {
		b[at] |= flagLocal
		b = append(b, byte(len(s.Location)))
		b = append(b, s.Location...)
	}
	if len(s.Data) > 1 {
		b[at] |= flagMany
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s.Data)))
	}
	if s.Terms != nil || s.Choose != 0 {
		b[at] |= flagSpecial
		b = binary.LittleEndian.AppendUint16(b, uint16(min(s.Choose, 0xffff)))
		for i := range s.Data {
			t := record.Terms{TTL: s.TTL, Weight: 1}
			if s.Terms != nil {
				t = s.Terms[i]
			}
			b = binary.LittleEndian.AppendUint32(b, t.TTL)
			b = binary.LittleEndian.AppendUint32(b, t.Weight)
			b = binary.LittleEndian.AppendUint64(b, uint64(t.From))
			b = binary.LittleEndian.AppendUint64(b, uint64(t.Until))
		}
	}
	for i, rd := range s.Data {
		before := s.Data[(i+len(s.Data)-1)%len(s.Data)]
		b = appendShares(b, layout, b[at], string(owner), string(before), string(rd))
	}
	b = binary.BigEndian.AppendUint16(b, uint16(s.Type))
	b = binary.BigEndian.AppendUint16(b, 1) // IN
	b = binary.BigEndian.AppendUint32(b, s.TTL)
	for _, rd := range s.Data {
		b = binary.BigEndian.AppendUint16(b, uint16(len(rd)))
		b = append(b, rd...)
	}
	return b
}

// Dress gives the RRsets of a name the terms that its RRsets of record.TypeTerms say, each
// those of its own location. undress: some may have terms that are said no more.
func Dress(owner record.Name, sets []Body, undress bool) {
	var terms []record.Set
	for _, b := range sets {
		if b.Type == record.TypeTerms {
			terms = append(terms, b.Set.RRset(owner))
		}
	}
	if len(terms) == 0 && !undress {
		return
	}
	for i, b := range sets {
		if b.Type.IsOwn() {
			continue
		}
		location := record.Location(b.Set.Location())
		k := slices.IndexFunc(terms, func(t record.Set) bool { return t.Location == location })
		if k < 0 && !b.Set.Dressed() {
			continue
		}
		s := record.Set{RRset: b.Set.RRset(owner).RRset}
		if k >= 0 {
			s = s.With(terms[k].Data)
		}
		sets[i].Set = AppendSet(nil, owner, &s)
	}
}

// appendShares appends the shares of one record.
func appendShares(b []byte, layout Layout, flags byte, owner, before, rd string) []byte {
	skip := 0
	if record.Name(owner).IsWildcard() {
		owner = owner[2:] // the records go out under other names, too, that share the rest
	}
	switch layout {
	case OneName:
	case MXName:
		skip = 2
	case TwoNames:
		m := isName(rd, 0)
		first, second := rd[:m], rd[m:isName(rd, m)]
		return append(b, byte(sharedSuffix(first, owner)), byte(sharedSuffix(second, owner)), byte(sharedSuffix(second, first)))
	default:
		return b
	}
	b = append(b, byte(sharedSuffix(rd[skip:], owner)))
	if flags&flagMany != 0 {
		b = append(b, byte(sharedSuffix(rd[skip:], before[skip:])))
	}
	return b
}

// Family is what a node has to know of the names below it.
type Family struct {
	Children int
	HasWild  bool
	Settled  bool
}

// Shape gives of the RRsets of a name the traits that matter to other names: Apex, Cut
// and DName. sure tells that it is an apex for every client and at all times.
func Shape(sets []Body) (t Traits, sure bool) {
	for _, s := range sets {
		switch s.Type {
		case record.TypeSOA:
			t |= Apex
			sure = sure || s.Set[0]&(flagLocal|flagSpecial) == 0
		case record.TypeNS:
			t |= Cut
		case record.TypeDNAME:
			if !s.Set.located() {
				t |= DName
			}
		}
	}
	if sure {
		t &^= Cut
	}
	return t, sure
}

// AppendNode appends the node of a name with RRsets in order of type and location.
func AppendNode(b []byte, name []byte, sets []Body, f Family) []byte {
	size := nodeHead + len(name) + 4*len(sets) + 2
	traits := Traits(0)
	for _, s := range sets {
		size += len(s.Set)
		if s.Set[0]&(flagLocal|flagSpecial) != 0 {
			traits |= Located
		}
	}
	shape, _ := Shape(sets)
	if traits |= shape; shape&Apex != 0 {
		size += 4
	}
	if f.Children > 0 {
		traits |= Parent
		size += 4
	}
	if f.HasWild {
		traits |= HasWild
	}
	if f.Settled {
		traits |= Settled
	}
	if size > 0xffff {
		traits |= Wide
		size += 2 * (len(sets) + 1)
	}
	start := len(b)
	b = append(b, byte(len(name)), byte(traits), 0, 0)
	binary.LittleEndian.PutUint16(b[start+2:], uint16(len(sets)))
	b = append(b, name...)
	if f.Children > 0 {
		b = binary.LittleEndian.AppendUint32(b, uint32(f.Children))
	}
	if shape&Apex != 0 {
		b = binary.LittleEndian.AppendUint32(b, negativeTTL(sets))
	}
	for _, s := range sets {
		b = binary.LittleEndian.AppendUint16(b, uint16(s.Type))
	}
	width := 2
	if traits&Wide != 0 {
		width = 4
	}
	end := len(b) - start + width*(len(sets)+1)
	put := func() {
		if width == 4 {
			b = binary.LittleEndian.AppendUint32(b, uint32(end))
		} else {
			b = binary.LittleEndian.AppendUint16(b, uint16(end))
		}
	}
	for _, s := range sets {
		put()
		end += len(s.Set)
	}
	put()
	for _, s := range sets {
		b = append(b, s.Set...)
	}
	return b
}

// negativeTTL is the smaller of the SOA's own TTL and its MINIMUM (RFC 2308 §3);
// of RDATA that is no SOA, its own.
func negativeTTL(sets []Body) uint32 {
	for _, s := range sets {
		if s.Type != record.TypeSOA || s.Set.located() {
			continue
		}
		v := s.Set.View()
		rd, _ := Next(v.Records())
		if v.Layout != TwoNames || len(rd) < soaTail {
			return v.TTL
		}
		return min(v.TTL, binary.BigEndian.Uint32(rd[len(rd)-4:]))
	}
	return 0
}

// soaTail is SERIAL, REFRESH, RETRY, EXPIRE and MINIMUM behind the names of a SOA
// (RFC 1035 §3.3.13), in octets.
const soaTail = 5 * 4

// StampSerial writes the serial into a Set that was made of a SOA; of anything else
// nothing is changed.
func StampSerial(s Set, serial uint32) {
	v := s.View()
	if v.Layout != TwoNames || v.Type != record.TypeSOA || v.Count != 1 {
		return
	}
	rd, _ := Next(v.Records())
	names := isName(stringOf(rd), 0)
	if isName(stringOf(rd), names)+soaTail == len(rd) {
		binary.BigEndian.PutUint32(rd[len(rd)-soaTail:], serial)
	}
}
