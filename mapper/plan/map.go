package plan

import (
	"iter"
	"net/netip"
	"strings"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/mapper/table"
	"github.com/zonecast/zonecast/record"
)

// Names are the PoPs of an order.
func (p *Plan) Names(o Order) []string {
	var names []string
	for _, j := range o {
		if j == None {
			break
		}
		names = append(names, p.Table.PoPs[j].Name)
	}
	return names
}

// Lines are the plan as a file, one line for each prefix of the table, in its order.
func (p *Plan) Lines() iter.Seq[table.Line] {
	return func(yield func(table.Line) bool) {
		known := map[Order][]string{}
		for i, o := range p.Orders {
			names, ok := known[o]
			if !ok {
				names = p.Names(o)
				known[o] = names
			}
			if !yield(table.Line{Prefix: p.Table.Prefixes[i], Order: names}) {
				return
			}
		}
	}
}

// Map is the plan as a map, with an entry for each prefix and for everybody else, and without
// uses. A location is named by its order, as esams/drmrs/eqiad.
func (p *Plan) Map(name string) *geo.Map { return p.MapOf(name, func(int) bool { return true }) }

// MapOf is Map of some of the prefixes.
func (p *Plan) MapOf(name string, of func(i int) bool) *geo.Map {
	m := &geo.Map{Name: name, Orders: map[record.Location][]record.Location{}}
	known := map[Order]record.Location{}
	location := func(o Order) record.Location {
		l, ok := known[o]
		if !ok {
			names := p.Names(o)
			l = record.Location(strings.Join(names, "/"))
			known[o] = l
			for _, n := range names {
				m.Orders[l] = append(m.Orders[l], record.Location(n))
			}
		}
		return l
	}
	everybody := [2]netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	said := [2]bool{}
	for i, o := range p.Orders {
		if !of(i) {
			continue
		}
		prefix := p.Table.Prefixes[i]
		for k := range everybody {
			said[k] = said[k] || prefix == everybody[k]
		}
		m.Entries = append(m.Entries, geo.Entry{Prefix: prefix, Location: location(o)})
	}
	for k, prefix := range everybody {
		if !said[k] {
			m.Entries = append(m.Entries, geo.Entry{Prefix: prefix, Location: location(p.Default)})
		}
	}
	return m
}

// Previous is the plan as the map in force, for the next one of the same prefixes.
func (p *Plan) Previous() Previous {
	return func(i int) []string { return p.Names(p.Orders[i]) }
}

// first is where prefix i is with other states of PoPs: the first of its order that is open, as
// hosts have it; the first of all when none is.
func (p *Plan) first(i int, pops []table.PoP) int {
	for _, j := range p.Orders[i] {
		if j != None && pops[j].Open() {
			return int(j)
		}
	}
	return int(p.Orders[i][0])
}

// Without measures what hosts make of the plan while PoPs have other states.
func (p *Plan) Without(pops []table.PoP) Figures {
	t := *p.Table
	t.PoPs = pops
	return Measure(&t, func(i int) int { return p.first(i, pops) })
}

// Displaced is the part of the demand that has another PoP then.
func (p *Plan) Displaced(pops []table.PoP) float64 {
	moved, all := 0.0, 0.0
	for i, d := range p.Table.Demand {
		all += d
		if p.first(i, pops) != int(p.Orders[i][0]) {
			moved += d
		}
	}
	if all == 0 {
		return 0
	}
	return moved / all
}
