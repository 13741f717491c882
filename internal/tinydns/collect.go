package tinydns

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// collector takes records in the order of a file and gives sets in the order of
// their keys.
type collector struct {
	names

	entries chunks[entry]

	terms   []terms // what entries share; the first is that of a plain record
	termsOf map[terms]uint32
	locs    []record.Location // the first is ""
	locOf   map[record.Location]uint16
}

// entry is a record.
type entry struct {
	data  ref
	node  uint32
	place uint32 // line, or offset in a cdb
	ttl   uint32
	terms uint32
	typ   record.Type
	loc   uint16
}

// terms is record.Terms without the TTL: few records have any.
type terms struct {
	weight      uint32
	from, until int64
}

func newCollector() *collector {
	return &collector{
		names:   newNames(),
		terms:   []terms{{weight: 1}},
		termsOf: map[terms]uint32{{weight: 1}: 0},
		locs:    []record.Location{""},
		locOf:   map[record.Location]uint16{"": 0},
	}
}

// mark is what a line says of its records besides their data.
type mark struct {
	ttl uint32
	terms
	loc record.Location
}

// add takes one record; its RDATA is canonical and is copied.
func (c *collector) add(owner []byte, t record.Type, m *mark, data []byte, place uint32) error {
	id, err := c.node(owner)
	if err != nil {
		return err
	}
	if c.entries.n >= maxRecords || c.full() {
		return fmt.Errorf("more than %d records, or %d octets in them", maxRecords, maxBlocks*blockOctets)
	}
	e := entry{data: c.keep(data), node: id, place: place, ttl: m.ttl, typ: t}
	if e.terms, err = c.termsID(m.terms); err != nil {
		return err
	}
	if e.loc, err = c.locID(m.loc); err != nil {
		return err
	}
	c.nodes.at(id).count++
	c.entries.add(e)
	return nil
}

func (c *collector) termsID(t terms) (uint32, error) {
	if t == c.terms[0] {
		return 0, nil
	}
	id, ok := c.termsOf[t]
	if !ok {
		id = uint32(len(c.terms)) // at most maxRecords of them
		c.terms = append(c.terms, t)
		c.termsOf[t] = id
	}
	return id, nil
}

func (c *collector) locID(l record.Location) (uint16, error) {
	if l == "" {
		return 0, nil
	}
	id, ok := c.locOf[l]
	if !ok {
		if len(c.locs) > 1<<16-1 {
			return 0, errors.New("more than 65535 locations")
		}
		id = uint16(len(c.locs))
		c.locs = append(c.locs, l)
		c.locOf[l] = id
	}
	return id, nil
}

// inOrder gives the nodes in canonical order of their names (RFC 4034 §6.1): a name
// stands before those below it, and siblings are ordered by their labels.
func (c *collector) inOrder() []uint32 {
	n := c.nodes.n
	from := make([]uint32, n+1) // of each node, where its children are in kids
	for i := 1; i < n; i++ {
		from[c.nodes.at(uint32(i)).parent+1]++
	}
	for i := range n {
		from[i+1] += from[i]
	}
	kids := make([]child, n-1)
	next := slices.Clone(from[:n])
	for i := 1; i < n; i++ {
		p := c.nodes.at(uint32(i)).parent
		kids[next[p]] = child{c.nodes.at(uint32(i)).prefix, uint32(i)}
		next[p]++
	}
	out := make([]uint32, 0, n)
	stack := []uint32{0}
	for len(stack) > 0 {
		id := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		out = append(out, id)
		mine := kids[from[id]:from[id+1]]
		if !slices.IsSortedFunc(mine, c.compareChildren) {
			slices.SortFunc(mine, c.compareChildren)
		}
		for i := len(mine) - 1; i >= 0; i-- {
			stack = append(stack, mine[i].node)
		}
	}
	return out
}

type child struct {
	prefix uint64
	node   uint32
}

func (c *collector) compareChildren(a, b child) int {
	if a.prefix != b.prefix {
		return cmp.Compare(a.prefix, b.prefix)
	}
	return cmp.Compare(c.name(a.node).FirstLabel(), c.name(b.node).FirstLabel())
}

// byOwner gives the entries' indices, owners in the order given, and of each owner by
// type, location and place in the file.
func (c *collector) byOwner(order []uint32) (index []uint32, sets int) {
	at := make([]uint32, c.nodes.n)
	sum := uint32(0)
	for _, id := range order {
		at[id] = sum
		sum += c.nodes.at(id).count
	}
	index = make([]uint32, c.entries.n)
	i := uint32(0)
	for _, chunk := range c.entries.list {
		for k := range chunk {
			id := chunk[k].node
			index[at[id]] = i
			at[id]++
			i++
		}
	}
	done := uint32(0)
	for _, id := range order {
		own := index[done : done+c.nodes.at(id).count]
		done += c.nodes.at(id).count
		if len(own) > 1 {
			slices.SortStableFunc(own, func(a, b uint32) int { return c.compareKeys(c.entries.at(a), c.entries.at(b)) })
		}
		for k := range own {
			if k == 0 || c.compareKeys(c.entries.at(own[k-1]), c.entries.at(own[k])) != 0 {
				sets++
			}
		}
	}
	return index, sets
}

func (c *collector) compareKeys(a, b *entry) int {
	if a.typ != b.typ {
		return cmp.Compare(a.typ, b.typ)
	}
	if a.loc == b.loc {
		return 0
	}
	return cmp.Compare(c.locs[a.loc], c.locs[b.loc])
}
