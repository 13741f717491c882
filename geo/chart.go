package geo

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Chart looks up clients in the binary form of an Atlas, where it lies. The zero Chart
// has no maps. It does not change.
type Chart struct {
	seed  uint64
	mask  uint64 // of slots
	depth [2]uint64

	locations, maps, uses, slots []byte
	text, tables                 []byte
}

// Open reads the binary form of an atlas; no octets are the zero Chart. b must not
// change while the Chart is used. What is not looked at until it is asked for is the
// content of the tables.
func Open(b []byte) (*Chart, error) {
	c := &Chart{}
	if len(b) == 0 {
		return c, nil
	}
	if len(b) < headerSize || string(b[:8]) != magic {
		return nil, fmt.Errorf("maps of locations: %d octets that begin with %q, expected %d or more that begin with %q; build the image anew", len(b), b[:min(len(b), 8)], headerSize, magic)
	}
	u32 := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(b[at:])) }
	c.seed = binary.LittleEndian.Uint64(b[8:])
	locations, maps, uses, slots := u32(16), u32(20), u32(24), u32(28)
	c.depth = [2]uint64{binary.LittleEndian.Uint64(b[32:]), binary.LittleEndian.Uint64(b[40:])}
	text := binary.LittleEndian.Uint64(b[48:])
	rest := b[headerSize:]
	for _, part := range []struct {
		to   *[]byte
		size uint64
	}{{&c.locations, locations * locationSize}, {&c.maps, maps * mapSize}, {&c.uses, uses * useSize}, {&c.slots, slots * slotSize}, {&c.text, text}} {
		if part.size > uint64(len(rest)) {
			return nil, fmt.Errorf("maps of locations: %d octets, and the header says that there are more (%d locations, %d maps, %d uses, %d slots, %d octets of text); build the image anew",
				len(b), locations, maps, uses, slots, text)
		}
		*part.to, rest = rest[:part.size:part.size], rest[part.size:]
	}
	c.tables = rest
	if slots&(slots-1) != 0 || slots <= uses && uses > 0 {
		return nil, fmt.Errorf("maps of locations: %d slots for %d uses, expected a power of two above; build the image anew", slots, uses)
	}
	c.mask = slots - 1
	return c, nil
}

// Empty tells that nobody has a location.
func (c *Chart) Empty() bool { return len(c.uses) == 0 }

// Place is where a client is.
type Place struct {
	// Location lies in the chart's octets; empty is none.
	Location []byte
	// Scope is how many bits of the client's subnet decided; more than it has means that
	// it is too coarse to tell. It is for the response's option (RFC 7871 §6): 0 when
	// there was no subnet, or when no map by subnet holds for the name.
	Scope uint8
}

// Locate tells where a client is that asks for a name, in canonical wire form with the
// given number of labels, from an address, on behalf of a subnet; a zero subnet is
// none. A location by subnet counts, else that by resolver (dnsrocks, docs/maps.md).
func (c *Chart) Locate(name []byte, labels int, resolver netip.Addr, subnet netip.Prefix) (p Place) {
	// Who sends 0 bits wants no answer of its own (RFC 7871 §7.1.2).
	if subnet.IsValid() && subnet.Bits() > 0 {
		if m := c.find(name, labels, BySubnet); m != nil {
			location, scope := c.locate(m, subnet.Addr(), subnet.Bits())
			if p.Scope = uint8(scope); location > 0 {
				p.Location = c.location(location)
				return p
			}
		}
	}
	if !resolver.IsValid() {
		return p
	}
	if m := c.find(name, labels, ByResolver); m != nil {
		resolver = resolver.Unmap()
		location, _ := c.locate(m, resolver, resolver.BitLen())
		p.Location = c.location(location)
	}
	return p
}

// find gives the map that holds for a name; nil: none.
func (c *Chart) find(name []byte, labels int, kind Kind) []byte {
	if len(c.slots) == 0 {
		return nil
	}
	if c.has(labels) {
		if m := c.probe(name, kind, false); m != nil {
			return m
		}
	}
	if labels == 0 && c.has(0) {
		return c.probe(name, kind, true)
	}
	for labels > 0 && len(name) > int(name[0])+1 {
		name = name[int(name[0])+1:]
		labels--
		if c.has(labels) {
			if m := c.probe(name, kind, true); m != nil {
				return m
			}
		}
	}
	return nil
}

// has tells whether any use has a name of so many labels.
func (c *Chart) has(labels int) bool { return c.depth[labels/64&1]&(1<<(labels%64)) != 0 }

func (c *Chart) probe(name []byte, kind Kind, isBelow bool) []byte {
	h := hashUse(name, kind, isBelow, c.seed)
	for slot, n := h&c.mask, uint64(0); n <= c.mask; slot, n = (slot+1)&c.mask, n+1 {
		i := int(binary.LittleEndian.Uint32(c.slots[slot*slotSize:]))
		if i == 0 || i*useSize > len(c.uses) {
			return nil
		}
		u := c.uses[(i-1)*useSize : i*useSize]
		if binary.LittleEndian.Uint64(u) != h || Kind(u[14]) != kind || u[15] != below(isBelow) {
			continue
		}
		at, size := int(binary.LittleEndian.Uint32(u[8:])), int(binary.LittleEndian.Uint16(u[12:]))
		if at+size > len(c.text) || string(c.text[at:at+size]) != string(name) {
			continue
		}
		m := int(binary.LittleEndian.Uint32(u[16:]))
		if (m+1)*mapSize > len(c.maps) {
			return nil
		}
		return c.maps[m*mapSize : (m+1)*mapSize]
	}
	return nil
}

// location gives the octets of location number n - 1.
func (c *Chart) location(n int) []byte {
	if n == 0 || n*locationSize > len(c.locations) {
		return nil
	}
	l := c.locations[(n-1)*locationSize:]
	at, size := int(binary.LittleEndian.Uint32(l)), int(binary.LittleEndian.Uint32(l[4:]))
	if at+size > len(c.text) {
		return nil
	}
	return c.text[at : at+size : at+size]
}

// table is what a map has of one family.
type table struct {
	family          int // 4 or 6
	starts, values  []byte
	entries, around []byte
	ranges, count   int
}

func (t *table) start(of []byte, i int) number {
	if t.family == 4 {
		return number{Hi: uint64(binary.LittleEndian.Uint32(of[4*i:])) << 32}
	}
	return number{Hi: binary.LittleEndian.Uint64(of[16*i:]), Lo: binary.LittleEndian.Uint64(of[16*i+8:])}
}

// last is the last of n ascending starts that is not above a; -1: none.
func (t *table) last(of []byte, n int, a number) int {
	low, high := 0, n // the first above a is in [low, high]
	for low < high {
		mid := int(uint(low+high) / 2)
		if a.Less(t.start(of, mid)) {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low - 1
}

// table finds the tables of a family; ok is false when they are damaged.
func (c *Chart) table(m []byte, a netip.Addr) (t table, ok bool) {
	t.family = 6
	size, f := 16, m[familySize:]
	if a.Is4() {
		t.family, size, f = 4, 4, m
	}
	at := binary.LittleEndian.Uint64(f)
	t.ranges, t.count = int(binary.LittleEndian.Uint32(f[8:])), int(binary.LittleEndian.Uint32(f[12:]))
	if at > uint64(len(c.tables)) || t.ranges == 0 {
		return t, false
	}
	rest := c.tables[at:]
	for _, part := range [4]struct {
		to   *[]byte
		size int
	}{{&t.starts, t.ranges * size}, {&t.values, t.ranges * 4}, {&t.entries, t.count * size}, {&t.around, t.count * entrySize}} {
		if part.size > len(rest) {
			return t, false
		}
		*part.to, rest = rest[:part.size], rest[part.size:]
	}
	return t, true
}

// locate gives the number of the location of a prefix in a map, and how many bits
// decided.
func (c *Chart) locate(m []byte, addr netip.Addr, length int) (location, scope int) {
	t, ok := c.table(m, addr)
	if !ok {
		return 0, 0
	}
	a := numberOf(addr)
	i := t.last(t.starts, t.ranges, a)
	if i < 0 {
		return 0, 0
	}
	// The largest prefix around a that is within the range: it must differ from the
	// address before the range, and from the one behind it.
	if i > 0 {
		scope = before(t.start(t.starts, i), t.family).Common(a) + 1
	}
	if i+1 < t.ranges {
		scope = max(scope, t.start(t.starts, i+1).Common(a)+1)
	}
	scope = min(scope, addr.BitLen())
	if scope <= length {
		return int(binary.LittleEndian.Uint32(t.values[4*i:])), scope
	}
	return t.enclosing(a, length), scope
}

// enclosing is the location of the longest entry around a whole prefix.
func (t *table) enclosing(a number, length int) int {
	i := t.last(t.entries, t.count, a)
	for n := 0; i >= 0 && i < t.count && n <= 129; n++ { // no more are nested
		e := t.around[entrySize*i:]
		if bits := int(binary.LittleEndian.Uint32(e[8:])); bits <= length && a.Mask(bits) == t.start(t.entries, i) {
			return int(binary.LittleEndian.Uint32(e))
		}
		i = int(binary.LittleEndian.Uint32(e[4:])) - 1
	}
	return 0
}
