package geo

import (
	"fmt"
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

// Moves tells how many prefixes of each map have another order of PoPs in now than in g, from
// which now was made by a change that took old away and put others. Prefixes that were cut
// otherwise and lead to the same PoPs have not moved, nor have those of a location that has
// another name. A map that was not there has moved nobody.
func (g *Guide) Moves(now *Guide, old, put []record.RRset) (all []Move) {
	changed := map[string][]record.RRset{}
	ordered := map[string]bool{}
	for _, list := range [2][]record.RRset{old, put} {
		for _, r := range list {
			if r.Type != record.TypeMapBlock && r.Type != record.TypeMapOrder {
				continue
			}
			part, err := PartOf(r.Key)
			if err != nil {
				continue
			}
			if r.Type == record.TypeMapOrder {
				ordered[part.Map] = true
			}
			changed[part.Map] = append(changed[part.Map], r)
		}
	}
	for name, rrsets := range changed {
		was, is := g.chart(name), now.chart(name)
		m := Move{Map: name, Of: was.entries()}
		if m.Of == 0 {
			continue
		}
		seen := map[entry]bool{}
		look := func(family int, e entry) {
			if seen[e] {
				return
			}
			seen[e] = true
			before, after := was.orderAt(g, family, e.at), is.orderAt(now, family, e.at)
			if slices.Equal(before, after) {
				return
			}
			if m.Prefixes++; len(m.Examples) < maxMoveExamples {
				m.Examples = append(m.Examples, fmt.Sprintf("%s %s → %s", e.text(family), first(before), first(after)))
			}
		}
		for _, r := range rrsets {
			if r.Type != record.TypeMapBlock {
				continue
			}
			for _, rd := range r.Data {
				if e, err := parseEntry(string(rd)); err == nil {
					family := 0
					if e.Prefix.Addr().Is6() {
						family = 1
					}
					look(family, entry{at: numberOf(e.Prefix.Addr()), bits: uint8(e.Prefix.Bits())})
				}
			}
		}
		if ordered[name] && is != nil { // it may be any
			for family, blocks := range is.blocks {
				for _, b := range blocks {
					for e := range b.each {
						look(family, e)
					}
				}
			}
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Move) int {
		if a.Map < b.Map {
			return -1
		}
		return 1
	})
	return all
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

// orderAt is the PoPs for an address, by name.
func (c *chartOf) orderAt(g *Guide, family int, at number) []string {
	if c == nil || c.tables[family] == nil {
		return nil
	}
	t := c.tables[family]
	order := c.spots[t.value(t.find(at))].order
	names := make([]string, len(order))
	for i, n := range order {
		names[i] = g.pops.name[n]
	}
	return names
}

func first(order []string) string {
	if len(order) == 0 {
		return "nowhere"
	}
	return order[0]
}

// text is the entry's prefix.
func (e entry) text(family int) string {
	if family == 0 {
		x := e.at.Hi >> 32
		return fmt.Sprintf("%d.%d.%d.%d/%d", x>>24, x>>16&0xff, x>>8&0xff, x&0xff, e.bits)
	}
	return fmt.Sprintf("%s/%d", e.at.Addr(128), e.bits)
}
