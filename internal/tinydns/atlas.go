package tinydns

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// atlas collects prefixes and what maps are used for.
type atlas struct {
	maps map[string]map[netip.Prefix]located
	uses map[geo.Use]use // keyed without the map
}

type located struct {
	lo    record.Location
	place uint32
}

type use struct {
	name  string // of the map
	place uint32
}

func (a *atlas) init() {
	a.maps = map[string]map[netip.Prefix]located{}
	a.uses = map[geo.Use]use{}
}

// add enters a prefix unless it is there already: then it gives what is there.
func (a *atlas) add(name string, p netip.Prefix, lo record.Location, place uint32) (have located, again bool) {
	m := a.maps[name]
	if m == nil {
		m = map[netip.Prefix]located{}
		a.maps[name] = m
	}
	if have, again = m[p]; !again {
		m[p] = located{lo, place}
	}
	return have, again
}

// use enters what a map is used for, unless there is one already for that.
func (a *atlas) use(u geo.Use, place uint32) (have use, again bool) {
	name := u.Map
	u.Map = ""
	if have, again = a.uses[u]; !again {
		a.uses[u] = use{name, place}
	}
	return have, again
}

// everywhere makes the map of tinydns hold for all names, by the client's address.
func (a *atlas) everywhere() {
	a.use(geo.Use{Name: record.Root, Below: true, Kind: geo.ByResolver, Map: tinyMap}, 0)
}

// done gives the atlas, in an order that does not depend on the file's.
func (a *atlas) done() geo.Atlas {
	var out geo.Atlas
	for name, m := range a.maps {
		if out.Maps == nil {
			out.Maps = make(map[string][]geo.Entry, len(a.maps))
		}
		entries := make([]geo.Entry, 0, len(m))
		for p, l := range m {
			entries = append(entries, geo.Entry{Prefix: p, Location: l.lo})
		}
		slices.SortFunc(entries, func(x, y geo.Entry) int { return x.Prefix.Compare(y.Prefix) })
		out.Maps[name] = entries
	}
	for u, v := range a.uses {
		u.Map = v.name
		if out.Maps[u.Map] == nil { // one without prefixes: nobody has a location by it
			if out.Maps == nil {
				out.Maps = map[string][]geo.Entry{}
			}
			out.Maps[u.Map] = []geo.Entry{}
		}
		out.Uses = append(out.Uses, u)
	}
	slices.SortFunc(out.Uses, func(x, y geo.Use) int {
		below := func(u geo.Use) int {
			if u.Below {
				return 1
			}
			return 0
		}
		return cmp.Or(x.Name.Compare(y.Name), below(x)-below(y), cmp.Compare(x.Kind, y.Kind))
	})
	return out
}
