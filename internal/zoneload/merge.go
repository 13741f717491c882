package zoneload

import (
	"cmp"

	"github.com/zonecast/zonecast/record"
)

// Sets yields the RRsets of all zones in canonical order of their keys. When two
// zones have one key, both are yielded, that of the earlier path first. The set and
// its Data are overwritten by the next one; owner and RDATA stay valid.
func (z *Zones) Sets(yield func(*record.Set) bool) {
	m := merger{}
	for i := range z.Zones {
		if c := newCursor(&z.Zones[i], i); c.next() {
			m.heap = append(m.heap, c)
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.down(i)
	}
	for len(m.heap) > 0 {
		top := m.heap[0]
		// Names at and below an apex stand together in canonical order: while no other
		// zone comes in there, the rest of this one is next as a whole.
		whole := !m.second().IsSubdomainOf(top.apex)
		more := true
		for first := true; more && (first || whole); first = false {
			if !yield(&top.set) {
				return
			}
			more = top.next()
		}
		if !more {
			last := len(m.heap) - 1
			m.heap[0], m.heap = m.heap[last], m.heap[:last]
		}
		m.down(0)
	}
}

// merger is a heap of zones by the set that each is at, the first one at the root.
type merger struct{ heap []*cursor }

// second is the owner that the next zone but the first is at; "" without one.
func (m *merger) second() record.Name {
	switch len(m.heap) {
	case 1:
		return ""
	case 2:
		return m.heap[1].set.Owner
	}
	if m.heap[2].before(m.heap[1]) {
		return m.heap[2].set.Owner
	}
	return m.heap[1].set.Owner
}

func (m *merger) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(m.heap); child++ {
			if m.heap[child].before(m.heap[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		m.heap[i], m.heap[least] = m.heap[least], m.heap[i]
		i = least
	}
}

// cursor goes over a body.
type cursor struct {
	zone int // index in Zones
	apex record.Name
	rest string
	left uint16 // sets of the owner that are in rest
	set  record.Set
}

func newCursor(z *Zone, i int) *cursor { return &cursor{zone: i, apex: z.Apex, rest: z.body} }

func (c *cursor) before(d *cursor) bool {
	return cmp.Or(c.set.Owner.Compare(d.set.Owner), cmp.Compare(c.set.Type, d.set.Type), cmp.Compare(c.zone, d.zone)) < 0
}

// next reads a set. It is false at the end.
func (c *cursor) next() bool {
	if c.left == 0 {
		if c.rest == "" {
			return false
		}
		n := 1 + int(c.rest[0])
		c.set.Owner = record.Name(c.rest[1:n])
		c.left, c.rest = u16(c.rest[n:]), c.rest[n+2:]
	}
	c.left--
	b := c.rest
	c.set.Type = record.Type(u16(b))
	c.set.TTL = uint32(u16(b[2:]))<<16 | uint32(u16(b[4:]))
	count := u16(b[6:])
	b = b[setHead:]
	data := c.set.Data[:0]
	for range count {
		n := rdataHead + int(u16(b))
		data = append(data, record.Rdata(b[rdataHead:n]))
		b = b[n:]
	}
	c.set.Data, c.rest = data, b
	return true
}

func u16(b string) uint16 { return uint16(b[0])<<8 | uint16(b[1]) }
