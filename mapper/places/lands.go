package places

import (
	"fmt"
	"math"
	"net/netip"

	"github.com/zonecast/zonecast/geo/mmdb"
	"github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/table"
)

// Lands are the parts of the address space of which databases say something, in classes of which they say
// the same. They do not change.
type Lands struct {
	// Prefixes may be within one another: what is said of one is said of its addresses that are in no
	// longer one, of which Rests has one each.
	Prefixes, Rests []netip.Prefix
	Class           []int32      // of each prefix
	Places          []fill.Place // of each class, to a degree
}

// Lands reads all that the databases have. It is an error when that is more than most prefixes.
func (d Databases) Lands(most int) (*Lands, error) {
	seen := map[netip.Prefix]bool{}
	var all []netip.Prefix
	for _, dbs := range [][]*mmdb.DB{d.Systems, d.Cities} {
		for _, db := range dbs {
			for n, err := range db.Networks() {
				if err != nil {
					return nil, err
				}
				if !n.Found() || seen[n.Prefix] {
					continue
				}
				if len(all) == most {
					return nil, fmt.Errorf("the databases have more than %d networks, expected fewer: take those of countries in place of those of cities", most)
				}
				seen[n.Prefix] = true
				all = append(all, n.Prefix)
			}
		}
	}
	l := &Lands{}
	var rests []netip.Prefix
	for i, rest := range table.Rests(all) {
		if rest.IsValid() { // else longer ones have all of it
			l.Prefixes, rests = append(l.Prefixes, all[i]), append(rests, rest)
		}
	}
	l.Rests = rests
	where, err := d.Look(rests)
	if err != nil {
		return nil, err
	}
	classes := map[fill.Place]int32{}
	l.Class = make([]int32, len(rests))
	for i, p := range where {
		if p.Located {
			p.Latitude, p.Longitude = float32(math.Round(float64(p.Latitude))), float32(math.Round(float64(p.Longitude)))
		}
		c, there := classes[p]
		if !there {
			c = int32(len(l.Places))
			classes[p] = c
			l.Places = append(l.Places, p)
		}
		l.Class[i] = c
	}
	return l, nil
}
