package mapper

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/ortc"
	"github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/places"
	"github.com/zonecast/zonecast/mapper/plan"
	"github.com/zonecast/zonecast/mapper/table"
	"github.com/zonecast/zonecast/record"
)

// strangers are the orders of who is in no prefix that was measured or has demand, by what databases
// say of his place.
type strangers struct {
	lands  *places.Lands
	orders []plan.Order // of each class
}

// everywhere makes them. home says where an address is now: who is at a PoP stays there for less than the
// threshold, as everybody does; nil: there is no map.
func (c *computed) everywhere(lands *places.Lands, home func(netip.Prefix) []string) *strangers {
	s := &strangers{lands, make([]plan.Order, len(lands.Places))}
	now := make([][]string, len(lands.Places))
	if home != nil {
		for i, class := range lands.Class {
			if now[class] == nil {
				now[class] = home(lands.Rests[i])
			}
		}
	}
	number := map[string]int16{}
	for j, p := range c.in.PoPs {
		number[p.Name] = int16(j)
	}
	for class, place := range lands.Places {
		row, _ := c.filled.At(place)
		s.orders[class] = c.OrderFor(row)
		if o, ok := c.orderOf(now[class], number); ok && row[o[0]]-row[s.orders[class][0]] <= c.threshold(row[o[0]]) {
			s.orders[class] = o
		}
	}
	return s
}

// orderOf is the order of names; false: some of them are closed, or there are fewer than there may be.
func (c *computed) orderOf(names []string, number map[string]int16) (plan.Order, bool) {
	o := plan.Order{plan.None, plan.None, plan.None}
	open := 0
	for _, p := range c.in.PoPs {
		if p.Open() {
			open++
		}
	}
	if len(names) != min(open, len(o)) {
		return o, false
	}
	for k, name := range names {
		j, ok := number[name]
		if !ok || !c.in.PoPs[j].Open() {
			return o, false
		}
		o[k] = j
	}
	return o, true
}

// under lays strangers under the entries of a map: what these say of everybody else goes below them.
func (s *strangers) under(c *computed, m *geo.Map) ([]geo.Entry, error) {
	var base, own []geo.Entry
	for _, e := range m.Entries {
		if e.Prefix.Bits() == 0 {
			base = append(base, e)
		} else {
			own = append(own, e)
		}
	}
	locations := make([]record.Location, len(s.orders))
	for class, o := range s.orders {
		names := c.Names(o)
		l := record.Location(strings.Join(names, "/"))
		locations[class] = l
		if _, ok := m.Orders[l]; !ok {
			for _, n := range names {
				m.Orders[l] = append(m.Orders[l], record.Location(n))
			}
		}
	}
	for i, p := range s.lands.Prefixes {
		if p.Bits() > 0 {
			base = append(base, geo.Entry{Prefix: p, Location: locations[s.lands.Class[i]]})
		}
	}
	return ortc.Over(base, own)
}

// at is the class of an address, by what the databases say of it now.
func (s *strangers) at(c *computed, a netip.Addr) (row []int32, from fill.Level, o plan.Order, ok bool) {
	if s == nil {
		return nil, 0, o, false
	}
	p := netip.PrefixFrom(a, a.BitLen())
	best := -1
	for i, q := range s.lands.Prefixes {
		if q.Contains(p.Addr()) && (best < 0 || q.Bits() > s.lands.Prefixes[best].Bits()) {
			best = i
		}
	}
	if best < 0 {
		return nil, 0, o, false
	}
	class := s.lands.Class[best]
	row, from = c.filled.At(s.lands.Places[class])
	return row, from, s.orders[class], true
}

// choices are the PoPs for a row, the nearest first.
func (c *computed) choices(row []int32, source func(j int) string, o plan.Order) (all []Choice) {
	for j, p := range c.in.PoPs {
		price := 0.0
		switch {
		case !p.Open():
			price = -1
		case c.Prices != nil:
			price = float64(c.Prices[j]) / 1000
		}
		all = append(all, Choice{p.Name, float64(row[j]) / 1000, source(j), price, int(o[0]) == j})
	}
	slices.SortStableFunc(all, func(a, b Choice) int { return cmp.Compare(a.MS, b.MS) })
	return all
}

// lands are those of the databases, which were read before if they are the same.
func (t *term) lands(in *inputs) (*places.Lands, error) {
	if t.landsOf == nil || t.landsKey != in.databasesOf {
		l, err := in.databases.Lands(table.MaxPrefixes)
		if err != nil {
			return nil, err
		}
		t.landsOf, t.landsKey = l, in.databasesOf
	}
	return t.landsOf, nil
}
