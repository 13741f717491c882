package tinydns

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// atlas writes the prefixes of the one map that tinydns has: that of the client's
// address, for all names.
func (w *writer) atlas(a *geo.Atlas) error {
	own := ""
	found := false
	for _, u := range a.Uses {
		if u.Name == record.Root && u.Below && u.Kind == geo.ByResolver {
			own, found = u.Map, true
			continue
		}
		w.problem(false, fmt.Sprintf("map %q", u.Map), "it is used for some names or for client subnets, tinydns has one map, by the client's address")
	}
	names := make([]string, 0, len(a.Maps))
	for name := range a.Maps {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if !found || name != own {
			w.problem(false, fmt.Sprintf("map %q", name), "its %d prefixes: tinydns has one map, by the client's address", len(a.Maps[name]))
		}
	}
	if !found {
		return nil
	}
	return w.prefixes(a.Maps[own])
}

// prefixes writes a map. A prefix that does not end at an octet becomes several that
// do; where one of those is there with a longer prefix's location, that one holds.
func (w *writer) prefixes(entries []geo.Entry) error {
	entries = slices.Clone(entries)
	slices.SortStableFunc(entries, func(x, y geo.Entry) int { return y.Prefix.Bits() - x.Prefix.Bits() })
	said := map[netip.Prefix]record.Location{}
	for _, e := range entries {
		switch why := cannotLocate(e.Location); {
		case !e.Prefix.Addr().Is4():
			w.problem(false, e.Prefix.String(), "tinydns has locations for IPv4 alone")
		case why != "":
			w.problem(false, e.Prefix.String(), "%s", why)
		default:
			octets(e.Prefix, func(p netip.Prefix) {
				if _, ok := said[p]; !ok {
					said[p] = e.Location
				}
			})
		}
	}
	all := make([]netip.Prefix, 0, len(said))
	for p := range said {
		all = append(all, p)
	}
	slices.SortFunc(all, netip.Prefix.Compare)
	for _, p := range all {
		w.s = statement{prefix: p, loc: said[p]}
		if err := w.put(); err != nil {
			return err
		}
	}
	return nil
}

// octets gives the prefixes that end at an octet and together are p: up to 128.
func octets(p netip.Prefix, yield func(netip.Prefix)) {
	bits := (p.Bits() + 7) / 8 * 8
	a := p.Masked().Addr().As4()
	for i := range 1 << (bits - p.Bits()) {
		q := a
		if bits > 0 {
			q[bits/8-1] |= byte(i)
		}
		yield(netip.PrefixFrom(netip.AddrFrom4(q), bits))
	}
}
