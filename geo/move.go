package geo

import (
	"fmt"
	"maps"
	"slices"

	"github.com/zonecast/zonecast/record"
)

// Move is what a change does to the clients of a map.
type Move struct {
	Map string
	// Prefixes is how many prefixes, of those that the map had or has, have another order of
	// PoPs; Of is how many the map had.
	Prefixes, Of int
	// Examples has a few of them, as "192.0.2.0/24 esams → drmrs": the first PoPs.
	Examples []string
}

const maxMoveExamples = 3

// Moves tells of each map that differs in now, which was made of g, how many of its prefixes
// have another order of PoPs there. Prefixes that were cut otherwise and lead to the same PoPs
// have not moved, nor have those of a location that has another name. A map that was not there
// has moved nobody; one that goes, or has no uses any more, moves all. A prefix is judged by the first of its addresses for which it is the
// longest; one without any has no clients.
func (g *Guide) Moves(now *Guide) (all []Move) {
	if g == nil {
		return nil
	}
	for _, was := range g.charts {
		is := now.chart(was.name)
		m := Move{Map: was.name, Of: was.entries()}
		if is == was || m.Of == 0 {
			continue
		}
		if is != nil && len(was.uses) > 0 && len(is.uses) == 0 {
			is = nil // it holds for no name any more
		}
		// Another order may be that of any prefix.
		every := is != nil && !maps.EqualFunc(was.orders, is.orders, slices.Equal[[]record.Rdata])
		for family := range was.blocks {
			moved := map[entry]bool{}
			look := func(e entry, at number) {
				before, after := was.orderAt(family, at), is.orderAt(family, at)
				if moved[e] || sameOrder(g, before, now, after) {
					return
				}
				moved[e] = true
				if m.Prefixes++; len(m.Examples) < maxMoveExamples {
					m.Examples = append(m.Examples, fmt.Sprintf("%s %s → %s", e.text(family), g.first(before), now.first(after)))
				}
			}
			was.own(family, is, false, look)
			is.own(family, was, every, look)
		}
		all = append(all, m)
	}
	return all
}

// own gives the entries of the blocks that another map does not have, or of every block, each
// with the first address for which it is the longest.
func (c *chartOf) own(family int, other *chartOf, every bool, look func(e entry, at number)) {
	if c == nil {
		return
	}
	blocks := c.blocks[family]
	for i, b := range blocks {
		if !every && other.has(family, b) {
			continue
		}
		var list []entry // of b, and of those behind it as far as they are needed
		next := i
		load := func() {
			for e := range blocks[next].each {
				list = append(list, e)
			}
			next++
		}
		load()
		for k, e := range list[:b.count] {
			at, over := e.at, false
			for j := k + 1; !over; j++ {
				if j == len(list) {
					if next == len(blocks) || !e.around(blocks[next].in) {
						break
					}
					load()
				}
				in := list[j]
				if !e.around(in) || at.Less(in.at) {
					break
				}
				if in.at == at {
					at, over = in.at.After(int(in.bits))
				}
			}
			if !over && at.Mask(int(e.bits)) == e.at {
				look(e, at)
			}
		}
	}
}

// has tells whether a block of another map is this one's, too.
func (c *chartOf) has(family int, b *block) bool {
	if c == nil {
		return false
	}
	i, found := search(c.blocks[family], b.in)
	return found && c.blocks[family][i] == b
}

// chart is the map of a name; nil: there is none.
func (g *Guide) chart(name string) *chartOf {
	if g == nil {
		return nil
	}
	if i, found := g.find(name); found {
		return g.charts[i]
	}
	return nil
}

// entries is how many prefixes a map has.
func (c *chartOf) entries() (n int) {
	if c == nil {
		return 0
	}
	return entriesOf(c.blocks[0]) + entriesOf(c.blocks[1])
}

func entriesOf(blocks []*block) (n int) {
	for _, b := range blocks {
		n += b.count
	}
	return n
}

// orderAt is the PoPs for an address.
func (c *chartOf) orderAt(family int, at number) []uint16 {
	if c == nil || c.tables[family] == nil {
		return nil
	}
	t := c.tables[family]
	return c.spots[t.value(t.find(at))].order
}

// sameOrder tells whether two orders, each by the numbers of its Guide, have the same PoPs.
func sameOrder(g *Guide, a []uint16, now *Guide, b []uint16) bool {
	return slices.EqualFunc(a, b, func(x, y uint16) bool { return g.pops.name[x] == now.pops.name[y] })
}

// first is the name of an order's first PoP.
func (g *Guide) first(order []uint16) string {
	if len(order) == 0 {
		return "nowhere"
	}
	return g.pops.name[order[0]]
}

// text is the entry's prefix.
func (e entry) text(family int) string {
	if family == 0 {
		x := e.at.Hi >> 32
		return fmt.Sprintf("%d.%d.%d.%d/%d", x>>24, x>>16&0xff, x>>8&0xff, x&0xff, e.bits)
	}
	return fmt.Sprintf("%s/%d", e.at.Addr(128), e.bits)
}
