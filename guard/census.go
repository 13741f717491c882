package guard

import (
	"iter"
	"math"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// census knows how large everything is that bounds are shares of.
type census struct {
	all     func() iter.Seq[record.RRset]
	zones   map[record.Name]*zone
	sources map[record.Source]int
	rrsets  int // content of all zones
	longest int // apex, in octets: longer names are no apexes
	// guide is the maps, from the first count on.
	guide *geo.Guide
}

// zone is one that has a SOA.
type zone struct {
	soas   int // by location
	rrsets int // content
	// empty is when the zone was last seen to be empty, in the Judge's time.
	empty int64
}

// never is before every time.
const never = math.MinInt64

// count takes everything anew. Zones that were not there come into being at now.
func (c *census) count(now int64) {
	known := c.zones
	c.zones, c.rrsets, c.longest = make(map[record.Name]*zone, len(known)), 0, 0
	for r := range c.all() {
		if r.Type == record.TypeSOA {
			z := c.open(r.Owner, now)
			if was := known[r.Owner]; was != nil {
				z.empty = was.empty
			}
			z.soas++
		}
	}
	var own []record.RRset
	for r := range c.all() {
		if c.guide == nil && r.Type.IsOwn() {
			own = append(own, r)
		}
		apex := c.enclosing(r.Owner, nil)
		if isContent(&r.Key, apex) {
			c.add(apex, 1)
		}
	}
	if c.guide == nil {
		c.guide, _ = (*geo.Guide)(nil).Apply(own, nil) // what is malformed was never let in
	}
}

func (c *census) open(apex record.Name, now int64) *zone {
	z := c.zones[apex]
	if z == nil {
		z = &zone{empty: now}
		c.zones[apex] = z
		c.longest = max(c.longest, len(apex))
	}
	return z
}

func (c *census) add(apex record.Name, n int) {
	c.rrsets += n
	if z := c.zones[apex]; z != nil {
		z.rrsets += n
	}
}

// shift is what a change does to the number of SOAs at names; nil: nothing.
type shift map[record.Name]int

// enclosing is the apex of the zone that name is in, after the shift; "" when it is in
// none.
func (c *census) enclosing(name record.Name, s shift) record.Name {
	for ; name != ""; name = name.Parent() {
		if s == nil && len(name) > c.longest {
			continue
		}
		if c.soas(name, s) > 0 {
			return name
		}
	}
	return ""
}

func (c *census) soas(name record.Name, s shift) int {
	n := s[name]
	if z := c.zones[name]; z != nil {
		n += z.soas
	}
	return n
}

// follow takes what a change did, which t has, into the census. Where names moved between
// zones everything is counted anew.
func (c *census) follow(source record.Source, t *tally, now int64) {
	moved := false
	for apex, n := range t.shift {
		was := c.soas(apex, nil) > 0
		if n > 0 {
			c.open(apex, now)
		}
		if is := c.soas(apex, t.shift) > 0; was && !is {
			moved = moved || c.enclosing(apex.Parent(), t.shift) != ""
		} else if is && !was {
			moved = moved || c.enclosing(apex.Parent(), nil) != ""
		}
	}
	net := 0
	for i := range t.zones {
		s := &t.zones[i]
		if z := c.zones[s.apex]; z != nil && z.rrsets == 0 {
			z.empty = max(z.empty, now)
		}
		c.add(s.apex, s.net)
		net += s.net
	}
	for apex, n := range t.shift {
		z := c.zones[apex]
		if z == nil {
			continue
		}
		if z.soas += n; z.soas <= 0 {
			c.rrsets -= z.rrsets
			delete(c.zones, apex)
		}
	}
	if n := c.sources[source] + net; n > 0 {
		c.sources[source] = n
	} else {
		delete(c.sources, source)
	}
	if moved {
		c.count(now)
	}
}
