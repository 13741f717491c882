package zoneload

import (
	"cmp"
	"slices"
)

// place is a run in the order of the owners.
type place struct {
	key   uint64 // eight octets of sortKey
	run   uint32
	again bool // the owner is that of the place before
}

// sort fills g.order: the runs by owner in canonical order (RFC 4034 §6.1), those
// of one owner in any order. It tells whether all owners are in the zone.
//
// It sorts by eight octets of the owner's sort key at a time, and only those runs
// by the next eight that are equal in the ones before.
func (g *gatherer) sort() bool {
	g.order = room(g.order, len(g.runs))
	for i := range g.runs {
		if !below(g.name(g.runs[i].owner), g.apex) {
			return false
		}
		g.order = append(g.order, place{run: uint32(i)})
	}
	g.sortFrom(g.order, 0)
	return true
}

// sortFrom sorts places whose keys are equal in the octets before depth.
func (g *gatherer) sortFrom(places []place, depth int) {
	for i := range places {
		places[i].key = g.sortKey(places[i].run, depth)
	}
	slices.SortFunc(places, func(a, b place) int {
		return cmp.Compare(a.key, b.key)
	})
	for from := 0; from < len(places); {
		to := from + 1
		for to < len(places) && places[to].key == places[from].key {
			to++
		}
		switch key := places[from].key; {
		case to == from+1:
		case uint16(key) == 0: // the name has ended: two labels have one zero octet between
			for i := from + 1; i < to; i++ {
				places[i].again = true
			}
		default:
			g.sortFrom(places[from:to], depth+8)
		}
		from = to
	}
}

// sortKey is eight octets, from depth on, of the key whose octet order is the
// canonical order of the names below the apex, big endian. The key has the labels
// from the apex down, each ended by 0x00, and zeros behind it without end. So that
// an octet of a label is never 0x00, 0x00 is 0x01 0x01 in it, and 0x01 is 0x01 0x02.
func (g *gatherer) sortKey(run uint32, depth int) uint64 {
	name := g.octets[g.runs[run].owner:]
	var starts [128]uint8 // of the labels below the apex
	n, end := 0, len(g.name(g.runs[run].owner))-len(g.apex)
	for i := 0; i < end; i += int(name[i]) + 1 {
		starts[n] = uint8(i)
		n++
	}
	var key uint64
	at, until := 0, depth+8 // at counts the key's octets
	put := func(c byte) {
		if at >= depth && at < until {
			key = key<<8 | uint64(c)
		}
		at++
	}
	for n > 0 && at < until {
		n--
		label := name[int(starts[n])+1:][:name[starts[n]]]
		for _, c := range label {
			if c <= 1 {
				put(1)
				c++
			}
			put(c)
			if at >= until {
				break
			}
		}
		put(0)
	}
	for at < until {
		put(0)
	}
	return key
}
