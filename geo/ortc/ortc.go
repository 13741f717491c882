package ortc

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/addrbits"
	"github.com/zonecast/zonecast/record"
)

// number is an address, whatever its family.
type number = addrbits.Number

// maxNodes bounds the tree of one family: 2^27 nodes of 12 octets are 1.5 GiB.
const maxNodes = 1 << 27

// Aggregate gives the fewest entries that say what entries say. An address outside
// all of them has no location, as one of an entry with location "". An error names
// a prefix that is none, or is there twice with two locations.
func Aggregate(entries []geo.Entry) ([]geo.Entry, error) { return Over(nil, entries) }

// Over gives the fewest entries that say what over says, and what base says where over
// says nothing: an entry of over counts more than each of base, however long.
func Over(base, over []geo.Entry) ([]geo.Entry, error) {
	names := locations(base, over)
	var out []geo.Entry
	for _, width := range []int{32, 128} {
		under, err := flatten(base, width, names)
		if err != nil {
			return nil, err
		}
		top, err := flatten(over, width, names)
		if err != nil {
			return nil, err
		}
		t := tree{width: width, names: names, sets: map[string]int32{}, merged: map[uint64]int32{}}
		for value := range len(names) + 1 {
			t.single = append(t.single, t.intern([]int32{int32(value)}))
		}
		if out, err = t.entries(out, lay(under, top)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Moved tells which part of all addresses of IPv4, and of 2000::/3 of IPv6, which is what
// the Internet has, is at another location after than before, from 0 to 1.
func Moved(before, after []geo.Entry) (v4, v6 float64, err error) {
	names := locations(before, after)
	part := func(width int, from, to number) (share float64, err error) {
		a, err := flatten(before, width, names)
		if err != nil {
			return 0, err
		}
		b, err := flatten(after, width, names)
		if err != nil {
			return 0, err
		}
		size := func(n number) float64 { return float64(n.Hi)*0x1p64 + float64(n.Lo) }
		whole := size(to) - size(from)
		for i, j := 0, 0; i < len(a) && j < len(b); {
			start, end := a[i].start, to
			if start.Less(b[j].start) {
				start = b[j].start
			}
			if start.Less(from) {
				start = from
			}
			differ := max(a[i].value, none) != max(b[j].value, none)
			nextA, nextB := i+1 < len(a), j+1 < len(b)
			switch {
			case nextA && (!nextB || a[i+1].start.Less(b[j+1].start)):
				i++
				end = a[i].start
			case nextB && (!nextA || b[j+1].start.Less(a[i+1].start)):
				j++
				end = b[j].start
			case nextA:
				i, j = i+1, j+1
				end = a[i].start
			default:
				i = len(a)
			}
			if to.Less(end) {
				end = to
			}
			if differ && start.Less(end) {
				share += (size(end) - size(start)) / whole
			}
		}
		return share, nil
	}
	if v4, err = part(32, number{}, number{Hi: math.MaxUint64}); err != nil {
		return 0, 0, err
	}
	v6, err = part(128, number{Hi: 1 << 61}, number{Hi: 1 << 62})
	return v4, v6, err
}

// Values of ranges: unsaid, or 1 + the place of the location in the sorted list, which
// begins with "".
const (
	unsaid = 0
	none   = 1
)

// locations are those of all entries, and "", in order.
func locations(all ...[]geo.Entry) []record.Location {
	seen := map[record.Location]bool{"": true}
	for _, entries := range all {
		for _, e := range entries {
			seen[e.Location] = true
		}
	}
	names := make([]record.Location, 0, len(seen))
	for n := range seen {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// span is addresses from start on, up to the start of the next.
type span struct {
	start number
	value int32
}

// spans are a whole family in order; the first begins at 0, and no two neighbours are
// equal.
type spans []span

func (s spans) add(start number, value int32) spans {
	if n := len(s); n > 0 && s[n-1].start == start {
		s = s[:n-1]
	}
	if n := len(s); n > 0 && s[n-1].value == value {
		return s
	}
	return append(s, span{start, value})
}

// flatten makes spans of the entries of a family.
func flatten(entries []geo.Entry, width int, names []record.Location) (spans, error) {
	type one struct {
		at    number
		bits  int
		value int32
	}
	var all []one
	sorted := true
	for _, e := range entries {
		p := e.Prefix
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() && p.Bits() >= 96 {
			return nil, fmt.Errorf("%s is no prefix without bits behind its length, expected for example 192.0.2.0/24", p)
		}
		if p.Addr().BitLen() != width {
			continue
		}
		i, _ := slices.BinarySearch(names, e.Location)
		o := one{addrbits.Of(p.Addr()), p.Bits(), int32(i) + 1}
		if n := len(all); n > 0 && sorted {
			last := all[n-1]
			sorted = last.at.Less(o.at) || last.at == o.at && last.bits < o.bits
		}
		all = append(all, o)
	}
	if !sorted {
		slices.SortFunc(all, func(a, b one) int {
			switch {
			case a.at.Less(b.at):
				return -1
			case b.at.Less(a.at):
				return 1
			}
			return a.bits - b.bits
		})
	}
	type open struct {
		end   number
		over  bool // nothing is behind it
		value int32
	}
	s := spans{{value: unsaid}}
	var around []open // outermost first
	leave := func(until number, all bool) {
		for n := len(around) - 1; n >= 0 && (all || !around[n].over && !until.Less(around[n].end)); n-- {
			top := around[n]
			around = around[:n]
			if top.over {
				continue
			}
			outer := int32(unsaid)
			if n > 0 {
				outer = around[n-1].value
			}
			s = s.add(top.end, outer)
		}
	}
	for i, o := range all {
		if i > 0 && all[i-1].at == o.at && all[i-1].bits == o.bits {
			if all[i-1].value == o.value {
				continue
			}
			return nil, fmt.Errorf("%s is there twice, with locations %q and %q, expected one", netip.PrefixFrom(o.at.Addr(width), o.bits), names[all[i-1].value-1], names[o.value-1])
		}
		leave(o.at, false)
		s = s.add(o.at, o.value)
		end, over := o.at.After(o.bits)
		around = append(around, open{end, over, o.value})
	}
	leave(number{}, true)
	return s, nil
}

// lay puts one over the other; nothing is unsaid any more.
func lay(base, over spans) spans {
	out := make(spans, 0, len(base)+len(over))
	for i, j := 0, 0; i < len(base) && j < len(over); {
		v, start := over[j].value, over[j].start
		if v == unsaid {
			v = max(base[i].value, none)
		}
		if start.Less(base[i].start) {
			start = base[i].start
		}
		out = out.add(start, v)
		switch lastI, lastJ := i+1 == len(base), j+1 == len(over); {
		case lastI && lastJ:
			return out
		case lastJ || !lastI && base[i+1].start.Less(over[j+1].start):
			i++
		case lastI || over[j+1].start.Less(base[i+1].start):
			j++
		default:
			i, j = i+1, j+1
		}
	}
	return out
}

// tree is the binary trie of a family. A child that is negative is a leaf, of value
// -child; otherwise it is the number of a node.
type tree struct {
	width  int
	names  []record.Location
	nodes  []node
	list   [][]int32        // the sets: values, ascending
	single []int32          // value → its set
	sets   map[string]int32 // set as text → its place in list
	merged map[uint64]int32 // two sets → what is made of them
}

// node has the set of values that its prefix can have at the same price.
type node struct{ left, right, set int32 }

func (t *tree) entries(out []geo.Entry, s spans) ([]geo.Entry, error) {
	root, err := t.build(s, number{}, 0)
	if err != nil {
		return nil, err
	}
	return t.emit(out, root, number{}, 0, none), nil
}

// build makes the tree of a prefix; s begins with the span around its first address.
func (t *tree) build(s spans, at number, bits int) (int32, error) {
	if len(s) == 1 {
		return -s[0].value, nil
	}
	if len(t.nodes) >= maxNodes {
		return 0, fmt.Errorf("the prefixes make a tree of more than %d nodes; make fewer of them, or shorter ones", maxNodes)
	}
	middle := at.Bit(bits)
	k, found := slices.BinarySearchFunc(s, middle, func(x span, m number) int {
		switch {
		case x.start.Less(m):
			return -1
		case m.Less(x.start):
			return 1
		}
		return 0
	})
	right := k
	if !found {
		right--
	}
	n := int32(len(t.nodes))
	t.nodes = append(t.nodes, node{})
	l, err := t.build(s[:k], at, bits+1)
	if err != nil {
		return 0, err
	}
	r, err := t.build(s[right:], middle, bits+1)
	if err != nil {
		return 0, err
	}
	t.nodes[n] = node{l, r, t.merge(t.setOf(l), t.setOf(r))}
	return n, nil
}

func (t *tree) setOf(child int32) int32 {
	if child < 0 {
		return t.single[-child]
	}
	return t.nodes[child].set
}

func (t *tree) intern(values []int32) int32 {
	var key strings.Builder
	for _, v := range values {
		key.Write([]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
	}
	if n, ok := t.sets[key.String()]; ok {
		return n
	}
	n := int32(len(t.list))
	t.list = append(t.list, values)
	t.sets[key.String()] = n
	return n
}

// merge is what both sets have, or all of both when they have nothing in common.
func (t *tree) merge(a, b int32) int32 {
	if a == b {
		return a
	}
	key := uint64(min(a, b))<<32 | uint64(max(a, b))
	if n, ok := t.merged[key]; ok {
		return n
	}
	var both, either []int32
	x, y := t.list[a], t.list[b]
	for len(x) > 0 && len(y) > 0 {
		switch {
		case x[0] < y[0]:
			either, x = append(either, x[0]), x[1:]
		case y[0] < x[0]:
			either, y = append(either, y[0]), y[1:]
		default:
			both, either = append(both, x[0]), append(either, x[0])
			x, y = x[1:], y[1:]
		}
	}
	if either = append(append(either, x...), y...); len(both) > 0 {
		either = both
	}
	n := t.intern(either)
	t.merged[key] = n
	return n
}

// emit writes the entries of a prefix around which value holds.
func (t *tree) emit(out []geo.Entry, child int32, at number, bits int, value int32) []geo.Entry {
	if child < 0 {
		if -child != value {
			out = append(out, t.entry(at, bits, -child))
		}
		return out
	}
	n := t.nodes[child]
	if _, ok := slices.BinarySearch(t.list[n.set], value); !ok {
		value = t.list[n.set][0]
		out = append(out, t.entry(at, bits, value))
	}
	out = t.emit(out, n.left, at, bits+1, value)
	return t.emit(out, n.right, at.Bit(bits), bits+1, value)
}

func (t *tree) entry(at number, bits int, value int32) geo.Entry {
	return geo.Entry{Prefix: netip.PrefixFrom(at.Addr(t.width), bits), Location: t.names[value-1]}
}
