package table

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
)

// Line is one line of a map as a file: the PoPs of a prefix, the first that is up serves.
type Line struct {
	Prefix netip.Prefix
	Order  []string // 1 to 3
}

// mapColumns are those of a map's file; second and third may be empty, or not be there.
const mapColumns = "prefix,pop,second,third"

// WriteMap writes a map as a file.
func WriteMap(w io.Writer, lines func(yield func(Line) bool)) error {
	b := bufio.NewWriterSize(w, 1<<16)
	fmt.Fprintln(b, mapColumns)
	var text []byte
	for l := range lines {
		text = l.Prefix.AppendTo(text[:0])
		for k := range 3 {
			text = append(text, ',')
			if k < len(l.Order) {
				text = append(text, l.Order[k]...)
			}
		}
		b.Write(append(text, '\n'))
	}
	return b.Flush()
}

// Map is a map as a file has it.
type Map struct {
	lines []Line  // in the order of addresses, a prefix before what is in it
	up    []int32 // the line of the prefix around each, -1: none
}

// ReadMap reads what WriteMap wrote, or any lines of prefix and PoP; what follows are the second
// and the third PoP. file is for errors.
func ReadMap(r io.Reader, file string) (*Map, error) {
	type numbered struct {
		Line
		number int
	}
	var parts []*[]numbered
	err := readCSV(r, file, []string{"prefix", "pop"}, []string{"second", "third"}, func() func([][]byte, int) error {
		part := new([]numbered)
		parts = append(parts, part)
		names := map[string]string{} // of few PoPs
		return func(fields [][]byte, line int) error {
			p, err := ParsePrefix(string(bytes.TrimSpace(fields[0])))
			if err != nil {
				return err
			}
			var order []string
			for _, f := range fields[1:] {
				if f = bytes.TrimSpace(f); len(f) == 0 {
					break
				}
				name, ok := names[string(f)]
				if !ok {
					name = string(f)
					if err := (PoP{Name: name}).Check(); err != nil {
						return fmt.Errorf("PoP: %w", err)
					}
					if len(names) == MaxPrefixes {
						return fmt.Errorf("more than %d PoPs", MaxPrefixes)
					}
					names[name] = name
				}
				order = append(order, name)
			}
			if len(order) == 0 {
				return fmt.Errorf("%s has no PoP", p)
			}
			if len(*part) == MaxPrefixes {
				return fmt.Errorf("more than %d prefixes", MaxPrefixes)
			}
			*part = append(*part, numbered{Line{p, order}, line})
			return nil
		}
	})
	if err != nil {
		return nil, err
	}
	var all []numbered
	for _, p := range parts {
		all = append(all, *p...)
	}
	slices.SortFunc(all, func(a, b numbered) int {
		return cmp.Or(compare(a.Prefix, b.Prefix), cmp.Compare(a.number, b.number))
	})
	lines := make([]Line, len(all))
	for i, n := range all {
		if i > 0 && n.Prefix == all[i-1].Prefix {
			return nil, fmt.Errorf("%s:%d: %s is on line %d already, expected each prefix once", file, n.number, n.Prefix, all[i-1].number)
		}
		lines[i] = n.Line
	}
	return NewMap(lines), nil
}

// NewMap makes a map of lines with different prefixes, which it keeps.
func NewMap(lines []Line) *Map {
	slices.SortFunc(lines, func(a, b Line) int { return compare(a.Prefix, b.Prefix) })
	m := &Map{lines: lines, up: make([]int32, len(lines))}
	var open []int32
	for i, l := range lines {
		for len(open) > 0 && !within(lines[open[len(open)-1]].Prefix, l.Prefix) {
			open = open[:len(open)-1]
		}
		m.up[i] = -1
		if len(open) > 0 {
			m.up[i] = open[len(open)-1]
		}
		open = append(open, int32(i))
	}
	return m
}

func compare(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

func within(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }

// Rests gives an address of each prefix that no longer one of them has, as a prefix; the zero
// Prefix when they have all of it. There is what is said of the prefix: a map with fewer entries
// that say the same (package ortc) may have another entry for the prefix itself. Each prefix is there once.
func Rests(prefixes []netip.Prefix) []netip.Prefix {
	order := make([]int32, len(prefixes))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return compare(prefixes[a], prefixes[b]) })
	rests := make([]netip.Prefix, len(prefixes))
	var open []int32
	for _, i := range order {
		p := prefixes[i]
		for len(open) > 0 && !within(prefixes[open[len(open)-1]], p) {
			open = open[:len(open)-1]
		}
		if n := len(open); n > 0 && p.Contains(rests[open[n-1]].Addr()) {
			rest := behind(p)
			if !prefixes[open[n-1]].Contains(rest) {
				rest = netip.Addr{}
			}
			rests[open[n-1]] = netip.PrefixFrom(rest, rest.BitLen())
		}
		rests[i] = netip.PrefixFrom(p.Addr(), p.Addr().BitLen())
		open = append(open, i)
	}
	return rests
}

// behind is the first address after a prefix; the zero Addr when there is none.
func behind(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits() - 1; i >= 0; i-- {
		bit := byte(0x80) >> (i % 8)
		if b[i/8] ^= bit; b[i/8]&bit != 0 {
			a, _ := netip.AddrFromSlice(b)
			return a
		}
	}
	return netip.Addr{}
}

// Lines are those of the map, in the order of addresses.
func (m *Map) Lines() []Line { return m.lines }

// Lookup gives the line of the longest prefix that p is in; false: there is none.
func (m *Map) Lookup(p netip.Prefix) (Line, bool) {
	i, found := slices.BinarySearchFunc(m.lines, p, func(l Line, p netip.Prefix) int { return compare(l.Prefix, p) })
	if !found {
		i--
	}
	for i >= 0 && i < len(m.lines) {
		if within(m.lines[i].Prefix, p) {
			return m.lines[i], true
		}
		i = int(m.up[i])
	}
	return Line{}, false
}
