package geo

import (
	"net/netip"

	"github.com/zonecast/zonecast/record"
)

// Client is where a client is, by the maps of a Guide. The zero Client is nowhere.
type Client struct {
	guide    *Guide
	chart    *chartOf // by subnet; nil: none holds, or none was asked for
	family   int      // 0 IPv4, 1 IPv6
	at       number
	length   int    // bits of the subnet
	shift    int    // bits of the subnet that are no bits of at: of ::ffff:0:0/96
	place    int    // the range in the map
	located  uint16 // in the map by subnet; 0: by resolver
	resolver []uint16
	order    []uint16
}

// Locate tells where a client is that asks for a name, in canonical wire form with the given
// number of labels, from an address, on behalf of a subnet; a zero subnet is none. A location
// by subnet counts, else that by resolver.
func (g *Guide) Locate(name []byte, labels int, resolver netip.Addr, subnet netip.Prefix) (c Client) {
	if g.Empty() {
		return c
	}
	c.guide = g
	if resolver.IsValid() {
		if m := g.chartFor(name, labels, ByResolver); m != nil {
			c.resolver = m.resolver(resolver.Unmap())
			c.order = c.resolver
		}
	}
	// Who sends 0 bits wants no answer of its own (RFC 7871 §7.1.2).
	if !subnet.IsValid() || subnet.Bits() == 0 {
		return c
	}
	m := g.chartFor(name, labels, BySubnet)
	if m == nil {
		return c
	}
	a := subnet.Addr()
	c.chart, c.length = m, subnet.Bits()
	if a.Is4In6() && c.length >= mapped.Bits() {
		a, c.shift = a.Unmap(), mapped.Bits()
		c.length -= c.shift
	}
	if a.Is6() {
		c.family = 1
	}
	c.at = numberOf(a)
	if t := m.tables[c.family]; t != nil {
		c.place = t.find(c.at)
		c.move(t.value(c.place))
	}
	return c
}

// resolver is the order of PoPs for one address.
func (c *chartOf) resolver(a netip.Addr) []uint16 {
	family, bits := 0, uint8(32)
	if a.Is6() {
		family, bits = 1, 128
	}
	t := c.tables[family]
	if t == nil {
		return nil
	}
	at := numberOf(a)
	n := t.value(t.find(at))
	if n == 0 && privateBits(family, at) > 0 {
		// Of a resolver that is near a private address says what any does.
		location, _ := c.enclosing(family, entry{at: at, bits: bits}, 0, nil)
		n = c.number[string(location)]
	}
	return c.spots[n].order
}

// move puts the client at a location of its map, or where its resolver is.
func (c *Client) move(n uint16) {
	c.located = n
	if c.order = c.chart.spots[n].order; n == 0 {
		c.order = c.resolver
	}
}

// Order gives the numbers of the PoPs for the client, the best first; nil is none.
func (c *Client) Order() []uint16 { return c.order }

// PoP is the one with a number: its name, and whether it can be sent to.
func (g *Guide) PoP(n uint16) (name string, up bool) { return g.pops.name[n], !g.pops.unable[n] }

// mostWalk is how many ranges Scope looks at: beyond, it gives a scope that is true and may
// be narrower than the widest.
const mostWalk = 1024

// Scope gives the number of bits that decided (RFC 7871 §7.2.1): the widest prefix around the
// subnet's first address in which everybody gets the answer that its location gets. same
// tells whether an order of PoPs makes the same answer. More than the subnet has means that
// it has several answers.
func (c *Client) Scope(same func(order []uint16) bool) int {
	if c.chart == nil {
		return 0
	}
	t := c.chart.tables[c.family]
	if t == nil {
		return c.shift
	}
	// What was found of locations: many ranges have few of them.
	var known [64]struct {
		location uint16
		known    bool
		same     bool
	}
	alike := func(n uint16) bool {
		k := &known[n%uint16(len(known))]
		if !k.known || k.location != n {
			order := c.resolver
			if n != 0 {
				order = c.chart.spots[n].order
			}
			k.location, k.known, k.same = n, true, same(order)
		}
		return k.same
	}
	low, high, scope := c.place, c.place, 0
	for range mostWalk {
		// The prefix must differ from the address before low, and from the one behind high.
		left, right := 0, 0
		if low > 0 {
			left = before(t.start(low), t.family()).Common(c.at) + 1
		}
		if high+1 < t.len() {
			right = t.start(high+1).Common(c.at) + 1
		}
		// The nearer of the two decides; when it does, the other is farther.
		if scope = max(left, right); scope == 0 {
			break
		}
		if left >= right {
			if !alike(t.value(low - 1)) {
				break
			}
			low--
		} else {
			if !alike(t.value(high + 1)) {
				break
			}
			high++
		}
	}
	return scope + c.shift
}

// Widen puts a client whose Scope is longer than its subnet at the location that holds for
// the subnet as a whole, and tells whether that is another order.
func (c *Client) Widen() bool {
	if c.chart == nil || c.chart.tables[c.family] == nil {
		return false
	}
	area := entry{at: c.at, bits: uint8(c.length)}
	least := privateBits(c.family, c.at)
	if int(least) > c.length {
		least = 0
	}
	location, _ := c.chart.enclosing(c.family, area, least, nil)
	was := c.located
	c.move(c.chart.number[string(location)])
	return c.located != was
}

// Found is how a location was found, for people.
type Found struct {
	Map      string
	Kind     Kind
	Prefix   netip.Prefix // that matched; invalid: none, and the client has no location here
	Location record.Location
	Order    []PoP // of the location
	Private  bool  // the address is of a private network, and no entry is within that
}

// Explain tells how Locate finds a location: by subnet, if a map holds for the name and there
// is a subnet, and by resolver.
func (g *Guide) Explain(name record.Name, resolver netip.Addr, subnet netip.Prefix) (all []Found) {
	if g.Empty() {
		return nil
	}
	look := func(kind Kind, p netip.Prefix) {
		m := g.chartFor([]byte(name), name.Labels(), kind)
		if m == nil || !p.IsValid() || kind == BySubnet && p.Bits() == 0 {
			return
		}
		f := Found{Map: m.name, Kind: kind}
		a, bits := p.Addr(), p.Bits()
		if a.Is4In6() && bits >= mapped.Bits() {
			a, bits = a.Unmap(), bits-mapped.Bits()
		}
		family := 0
		if a.Is6() {
			family = 1
		}
		at := numberOf(a)
		least := uint8(0)
		if kind == BySubnet {
			least = privateBits(family, at)
		}
		location, matched := m.enclosing(family, entry{at: at, bits: uint8(bits)}, least, nil)
		f.Private = least > 0 && matched < 0
		if matched >= 0 {
			f.Prefix, f.Location = netip.PrefixFrom(a, matched).Masked(), record.Location(location)
			for _, n := range m.spots[m.number[string(location)]].order {
				name := g.pops.name[n]
				f.Order = append(f.Order, PoP{name, g.pops.state[name]})
			}
		}
		all = append(all, f)
	}
	look(BySubnet, subnet)
	if resolver.IsValid() {
		resolver = resolver.Unmap()
		look(ByResolver, netip.PrefixFrom(resolver, resolver.BitLen()))
	}
	return all
}
