package tinydns

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// %lo,cidr[,map]
func (p *rocks) location() error {
	p.ends(3)
	lo, err := p.lo(0)
	if err != nil {
		return err
	}
	prefix, err := p.cidr(1)
	if err != nil {
		return err
	}
	name, err := p.mapName(2)
	if err != nil {
		return err
	}
	return p.prefix(name, prefix, lo, p.rd.line)
}

// prefix enters a prefix. One that is there already with another location is an
// error: which one dnsrocks answers from depends on how its data was compiled.
func (p *rocks) prefix(name string, prefix netip.Prefix, lo record.Location, line uint32) error {
	have, again := p.atlas.add(name, prefix, lo, line)
	if again && have.lo != lo {
		return p.wrongf(0, "map %q: %s has location %q, and %q in line %d", name, prefix, string(lo), string(have.lo), have.place)
	}
	return nil
}

// cidr reads a prefix; an address is one of its full length, nothing is 0.0.0.0/0,
// and bits behind the prefix are cleared.
func (p *rocks) cidr(k int) (netip.Prefix, error) {
	f := string(p.field(k))
	if f == "" {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), nil
	}
	if ip, err := netip.ParseAddr(f); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(f)
	if err != nil {
		return prefix, p.wrongf(k, "expected a prefix such as 192.0.2.0/24 or 2001:db8::/32, found %q", clip(f))
	}
	if ip := prefix.Addr(); ip.Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(ip.Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), nil
}

// mapName reads a map's identifier: of less than two octets it is the one without
// name.
func (p *rocks) mapName(k int) (string, error) {
	f, err := p.unquote(k)
	if err != nil {
		return "", err
	}
	switch {
	case len(f) == 1:
		p.note("map %q has one octet: taken as none, maps have two or more", f)
		return tinyMap, nil
	case len(f) == 0:
		return tinyMap, nil
	case len(f) > 255:
		return "", p.wrongf(k, "map has %d octets, at most 255", len(f))
	}
	return string(f), nil
}

// Mdomain,map and 8domain,map
func (p *rocks) mapFor(kind geo.Kind) error {
	p.ends(2)
	f, err := p.unquote(0)
	if err != nil {
		return err
	}
	u := geo.Use{Kind: kind}
	f, u.Below = bytes.CutPrefix(f, []byte("*."))
	if p.name, err = appendLabels(p.name[:0], f); err != nil {
		return p.wrong(0, err)
	}
	u.Name = record.Name(p.name)
	if u.Map, err = p.mapName(1); err != nil {
		return err
	}
	if kind == geo.BySubnet && u.Map == tinyMap {
		p.note("%s: the map without name is none for client subnets", u.Name)
		return nil
	}
	if have, again := p.atlas.use(u, p.rd.line); again && have.name != u.Map {
		return p.wrongf(1, "%s uses map %q, and %q in line %d", u.Name, u.Map, have.name, have.place)
	}
	return nil
}

// defaultMap makes the map without name hold for all names that no other map by the
// resolver's address does, which is what dnsrocks does.
func (p *rocks) defaultMap() {
	if len(p.atlas.maps[tinyMap]) > 0 {
		p.atlas.everywhere()
	}
}

// point is where a range of addresses begins; it ends before the next. Addresses are
// those of IPv6, IPv4's stand in ::ffff:0:0/96.
type point struct {
	at    wide
	lo    record.Location
	known bool // there is a location, lo
	line  uint32
}

// wide is an IPv6 address as a number.
type wide struct{ hi, lo uint64 }

func wideOf(a netip.Addr) wide {
	b := a.As16()
	return wide{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (w wide) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], w.hi)
	binary.BigEndian.PutUint64(b[8:], w.lo)
	return netip.AddrFrom16(b)
}

func (w wide) less(v wide) bool { return w.hi < v.hi || w.hi == v.hi && w.lo < v.lo }

// plus gives w + 2^n; over tells that it is 2^128.
func (w wide) plus(n int) (sum wide, over bool) {
	var carry uint64
	if n < 64 {
		sum.lo, carry = bits.Add64(w.lo, 1<<n, 0)
		sum.hi, carry = bits.Add64(w.hi, 0, carry)
	} else if n < 128 {
		sum.lo = w.lo
		sum.hi, carry = bits.Add64(w.hi, 1<<(n-64), 0)
	} else {
		return w, true
	}
	return sum, carry != 0
}

// zeros is how many of the lowest bits are zero.
func (w wide) zeros() int {
	if w.lo != 0 {
		return bits.TrailingZeros64(w.lo)
	}
	return 64 + bits.TrailingZeros64(w.hi)
}

// !map,ip[,length,lo]: what dnsrocks' preprocessor makes of % lines.
func (p *rocks) rangePoint() error {
	p.ends(4)
	name, err := p.mapName(0)
	if err != nil {
		return err
	}
	ip, ok, err := p.address(1)
	if err != nil {
		return err
	}
	if !ok {
		return p.wrongf(1, "expected an address, found nothing")
	}
	if _, err := p.number(2, "prefix length", 128, 0); err != nil {
		return err
	}
	pt := point{at: wideOf(ip), line: p.rd.line}
	if f, err := p.unquote(3); err != nil {
		return err
	} else if len(f) > 1 {
		pt.known = true
	}
	if pt.lo, err = p.lo(3); err != nil {
		return err
	}
	if p.ranges == nil {
		p.ranges = map[string][]point{}
	}
	p.ranges[name] = append(p.ranges[name], pt)
	return nil
}

// addRanges makes prefixes of the ranges, the fewest that cover each.
func (p *rocks) addRanges() error {
	names := make([]string, 0, len(p.ranges))
	for name := range p.ranges {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		points := p.ranges[name]
		slices.SortStableFunc(points, func(a, b point) int {
			switch {
			case a.at.less(b.at):
				return -1
			case b.at.less(a.at):
				return 1
			}
			return 0
		})
		for i, pt := range points {
			last := i+1 == len(points)
			if !last && points[i+1].at == pt.at {
				if q := points[i+1]; q.lo != pt.lo || q.known != pt.known {
					p.rd.line = q.line
					return p.wrongf(-1, "map %q: range at %s has location %q, and %q in line %d", name, q.at.addr().Unmap(), string(q.lo), string(pt.lo), pt.line)
				}
				continue
			}
			if !pt.known {
				continue
			}
			r := interval{from: pt.at, toEnd: last}
			if !last {
				r.end = points[i+1].at
			}
			if err := p.addRange(name, pt, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// interval is the addresses from one to end, which is not in it; toEnd means to the
// end of all addresses.
type interval struct {
	from, end wide
	toEnd     bool
}

// The addresses of IPv4 are those from ipv4 to ipv4End.
var (
	ipv4    = wide{0, 0xffff << 32}
	ipv4End = wide{0, 1 << 48}
)

// addRange adds the prefixes of a range: of IPv4 and IPv6 apart, as an atlas has them.
// A range around all of IPv4 is one of IPv6 besides.
func (p *rocks) addRange(name string, pt point, r interval) error {
	below := r.from.less(ipv4)              // it begins before IPv4
	above := r.toEnd || ipv4End.less(r.end) // and ends behind it
	four := interval{from: r.from, end: r.end}
	if below {
		four.from = ipv4
	}
	if above {
		four.end = ipv4End
	}
	parts := []interval{four}
	switch {
	case below && above:
		parts = append(parts, r)
	case below:
		six := r
		if ipv4.less(r.end) {
			six.end = ipv4
		}
		parts = append(parts, six)
	case above:
		six := r
		if r.from.less(ipv4End) {
			six.from = ipv4End
		}
		parts = append(parts, six)
	}
	for _, part := range parts {
		if err := part.prefixes(func(prefix netip.Prefix) error {
			return p.prefix(name, prefix, pt.lo, pt.line)
		}); err != nil {
			p.rd.line = pt.line
			return err
		}
	}
	return nil
}

// prefixes gives the fewest prefixes that are together the interval.
func (r interval) prefixes(yield func(netip.Prefix) error) error {
	for at := r.from; r.toEnd || at.less(r.end); {
		// The largest block that begins here and does not reach beyond the end.
		n := at.zeros()
		var next wide
		var over bool
		for ; ; n-- {
			next, over = at.plus(n)
			if r.toEnd || !over && !r.end.less(next) {
				break
			}
		}
		prefix := netip.PrefixFrom(at.addr(), 128-n)
		if at.addr().Is4In6() && n <= 32 {
			prefix = netip.PrefixFrom(at.addr().Unmap(), 32-n)
		}
		if err := yield(prefix); err != nil {
			return err
		}
		if over {
			return nil
		}
		at = next
	}
	return nil
}
