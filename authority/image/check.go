package image

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/zonecast/zonecast/record"
)

// Report is what Check counted.
type Report struct {
	Names, Sets, Records, Zones int
	Octets                      int64
	// Longest is the most slots that a search for a name that is there looks at.
	Longest int
}

// Check reads the whole image and finds everything that would make an answer wrong:
// checksums, order, bounds, traits, the count of children, the way from a name's
// hash to its node. The octets may come from anywhere.
func (m *Image) Check() (Report, error) {
	r := Report{Octets: m.Size()}
	if err := m.Scrub(nil); err != nil {
		return r, err
	}
	c := checker{m: m, left: m.guides}
	at := uint64(blockSize)
	for at < m.head.index {
		if m.b[at] == 0 {
			end := roundUp(at + 1)
			if len(bytes.Trim(m.b[at:end], "\x00")) > 0 {
				return r, m.wrong(at, "octets between nodes")
			}
			at = end
			continue
		}
		n := Node(m.b[at:m.head.index])
		size, ok := n.size()
		if !ok {
			return r, m.wrong(at, "a node does not end")
		}
		if err := c.node(n[:size:size], at, &r); err != nil {
			return r, err
		}
		at += uint64(size)
	}
	for len(c.stack) > 0 {
		if err := c.pop(); err != nil {
			return r, err
		}
	}
	if len(c.left) > 0 {
		return r, m.wrong(m.head.atlas, fmt.Sprintf("%d octets name no node of maps", len(c.left)))
	}
	names, sets, zones, records := m.Counts()
	if r.Names != names || r.Sets != sets || r.Zones != zones || r.Records != records {
		return r, m.wrong(0, fmt.Sprintf("the header counts %d names, %d RRsets, %d zones and %d records; there are %d, %d, %d and %d",
			names, sets, zones, records, r.Names, r.Sets, r.Zones, r.Records))
	}
	used := 0
	for i := 0; i < len(m.slots); i += 8 {
		if binary.LittleEndian.Uint64(m.slots[i:]) != 0 {
			used++
		}
	}
	if used != names {
		return r, m.wrong(m.head.index, fmt.Sprintf("%d slots are taken for %d names", used, names))
	}
	return r, nil
}

func (m *Image) wrong(at uint64, found string) error {
	return &Damage{Path: m.path, Offset: int64(at), Found: found}
}

type checker struct {
	m     *Image
	left  []byte // of Image.guides
	last  []byte
	stack []checked
}

type checked struct {
	node         Node
	at           uint64
	hash         uint64
	children     int
	wild         bool
	zone, hidden bool
}

func (c *checker) node(n Node, at uint64, r *Report) error {
	m := c.m
	name := n.Name()
	if len(name) != isName(stringOf(name), 0) {
		return m.wrong(at, "a node's name is no canonical name")
	}
	if c.last != nil && record.Name(stringOf(c.last)).Compare(record.Name(stringOf(name))) >= 0 {
		return m.wrong(at, fmt.Sprintf("%s stands behind %s", record.Name(name), record.Name(c.last)))
	}
	c.last = name
	for len(c.stack) > 0 && !below(name, c.stack[len(c.stack)-1].node.Name()) {
		if err := c.pop(); err != nil {
			return err
		}
	}
	depth := len(c.stack)
	now := checked{node: n, at: at, hash: m.hash.Root()}
	if depth > 0 {
		up := &c.stack[depth-1]
		if parent := name[int(name[0])+1:]; !bytes.Equal(parent, up.node.Name()) {
			return m.wrong(at, fmt.Sprintf("the name above %s is missing", record.Name(name)))
		}
		up.children++
		up.wild = up.wild || name[0] == 1 && name[1] == '*'
		now.hash = m.hash.Child(up.hash, name[1:1+int(name[0])])
		now.zone, now.hidden = up.zone, up.hidden
	} else if name[0] != 0 {
		return m.wrong(at, fmt.Sprintf("the names above %s are missing", record.Name(name)))
	}
	if err := n.check(); err != nil {
		return m.wrong(at, fmt.Sprintf("%s: %v", record.Name(name), err))
	}
	t := n.Traits()
	if t&Apex != 0 {
		_, sure := Shape(n.Bodies(nil))
		now.zone, now.hidden = true, !sure
		r.Zones++
		if !m.head.apexes.Has(depth) {
			return m.wrong(at, "an apex at a depth that the header does not tell of")
		}
	}
	settled := now.zone && !now.hidden && t&Cut == 0
	if t&Cut != 0 || t&DName != 0 {
		now.hidden = true
		if !m.head.cuts.Has(depth) {
			return m.wrong(at, "a cut at a depth that the header does not tell of")
		}
	}
	if settled != (t&Settled != 0) {
		return m.wrong(at, fmt.Sprintf("%s is marked %v, in a zone and not hidden: %v", record.Name(name), t&Settled != 0, settled))
	}
	r.Names++
	for i := range n.Len() {
		_, s := n.At(i)
		v := s.View()
		r.Sets++
		r.Records += v.Count
	}
	if m.guides != nil && n.guides() {
		if len(c.left) < 8 || binary.LittleEndian.Uint64(c.left) != at {
			return m.wrong(at, fmt.Sprintf("%s has a map, and is not named among the nodes that have", record.Name(name)))
		}
		c.left = c.left[8:]
	}
	if err := c.reachable(now.hash, name, at, r); err != nil {
		return err
	}
	c.stack = append(c.stack, now)
	return nil
}

// reachable looks a node up by its name.
func (c *checker) reachable(h uint64, name []byte, at uint64, r *Report) error {
	m := c.m
	steps := 0
	for i := 8 * home(h, m.head.homes); i+8 <= uint64(len(m.slots)); i += 8 {
		steps++
		s := binary.LittleEndian.Uint64(m.slots[i:])
		if s == 0 {
			break
		}
		if s == h<<tagShift|at {
			r.Longest = max(r.Longest, steps)
			return nil
		}
	}
	return m.wrong(at, fmt.Sprintf("%s is not in the index", record.Name(name)))
}

func (c *checker) pop() error {
	a := c.stack[len(c.stack)-1]
	c.stack = c.stack[:len(c.stack)-1]
	if a.node.Children() != a.children || a.node.Traits()&HasWild != 0 != a.wild {
		return c.m.wrong(a.at, fmt.Sprintf("%s says it has %d children (wildcard: %v), it has %d (%v)",
			record.Name(a.node.Name()), a.node.Children(), a.node.Traits()&HasWild != 0, a.children, a.wild))
	}
	return nil
}

// check finds what is wrong within a node of known size.
func (n Node) check() error {
	t := n.Traits()
	count := n.Len()
	special := false
	at := n.directory() + 2*count
	width := 2
	if t&Wide != 0 {
		width = 4
	}
	offset := func(i int) int {
		if width == 4 {
			return int(binary.LittleEndian.Uint32(n[at+4*i:]))
		}
		return int(binary.LittleEndian.Uint16(n[at+2*i:]))
	}
	if offset(0) != at+width*(count+1) || offset(count) != len(n) {
		return fmt.Errorf("its RRsets begin at %d and end at %d", offset(0), offset(count))
	}
	var lastType record.Type
	var lastPlace []byte
	for i := range count {
		if offset(i) >= offset(i+1) {
			return fmt.Errorf("RRset %d begins at %d and ends at %d", i, offset(i), offset(i+1))
		}
		kind, s := n.At(i)
		if err := s.check(string(n.Name())); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		v := s.View()
		if v.Type != kind {
			return fmt.Errorf("%s in the place of %s", v.Type, kind)
		}
		if i > 0 && !typesInOrder(lastType, lastPlace, kind, v.Location) {
			return fmt.Errorf("%s stands behind %s", kind, lastType)
		}
		lastType, lastPlace = kind, v.Location
		special = special || s[0]&(flagLocal|flagSpecial) != 0
	}
	shape, _ := Shape(n.Bodies(nil))
	for _, x := range []struct {
		trait Traits
		want  bool
	}{{Apex, shape&Apex != 0}, {Cut, shape&Cut != 0}, {DName, shape&DName != 0}, {Located, special}, {Parent, n.Children() > 0}} {
		if t&x.trait != 0 != x.want {
			return fmt.Errorf("its traits %08b contradict its RRsets", t)
		}
	}
	if shape&Apex != 0 && n.NegativeTTL() != negativeTTL(n.Bodies(nil)) {
		return fmt.Errorf("negative TTL is %d, expected %d", n.NegativeTTL(), negativeTTL(n.Bodies(nil)))
	}
	return nil
}

// check finds what is wrong within a set.
func (s Set) check(owner string) error {
	f := s[0]
	at := 1
	if f&^(layoutMask|flagMany|flagLocal|flagSpecial) != 0 || Layout(f&layoutMask) > SVCName {
		return fmt.Errorf("flags %08b", f)
	}
	if f&flagLocal != 0 {
		if len(s) < 2 || s[1] == 0 || len(s) < 2+int(s[1]) {
			return fmt.Errorf("its location does not end")
		}
		at += 1 + int(s[1])
	}
	count := 1
	if f&flagMany != 0 {
		if len(s) < at+2 {
			return fmt.Errorf("it ends before its count")
		}
		if count = int(binary.LittleEndian.Uint16(s[at:])); count < 2 {
			return fmt.Errorf("%d records where more are announced", count)
		}
		at += 2
	}
	if f&flagSpecial != 0 {
		at += 2 + termsSize*count
	}
	layout := Layout(f & layoutMask)
	shares := at
	at += layout.shares(f) * count
	if len(s) < at+wireHead {
		return fmt.Errorf("it ends before its type")
	}
	t := record.Type(binary.BigEndian.Uint16(s[at:]))
	if class := binary.BigEndian.Uint16(s[at+2:]); class != 1 || !t.IsData() {
		return fmt.Errorf("type %s, class %d", t, class)
	}
	rest := s[at+wireHead:]
	all := make([]string, 0, min(count, len(rest)/2))
	for i := range count {
		if len(rest) < 2 || len(rest) < 2+int(binary.BigEndian.Uint16(rest)) {
			return fmt.Errorf("record %d does not end", i)
		}
		var rd []byte
		rd, rest = Next(rest)
		if layout != Opaque && layoutOf(t, string(rd)) != layout {
			return fmt.Errorf("record %d has not the layout %d", i, layout)
		}
		all = append(all, string(rd))
	}
	var want []byte
	for i, rd := range all {
		want = appendShares(want, layout, f, owner, all[(i+count-1)%count], rd)
	}
	if got := s[shares:][:len(want)]; !bytes.Equal(got, want) {
		return fmt.Errorf("its names share %v octets, not %v", want, []byte(got))
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d octets behind its records", len(rest))
	}
	return nil
}
