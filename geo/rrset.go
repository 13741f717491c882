package geo

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/record"
)

// A map in a dataset; docs/format/map.md draws it:
//
//	<block>.v4.<map>.<zone>    TypeMapBlock  entries of IPv4 in one range of addresses
//	<block>.v6.<map>.<zone>    TypeMapBlock  of IPv6
//	<0-f>.orders.<map>.<zone>  TypeMapOrder  the orders of some locations
//	uses.<map>.<zone>          TypeMapUse    the names that the map holds for
//	<pop>.pops.<zone>          TypePoP       the state of a PoP
//
// zone is Zone or below it. A block is named by the prefix that all of its entries lie in:
// its length, and behind a hyphen as many hexadecimal digits of the address as have bits of
// it; "0" is everything.
//
// RDATA (big endian):
//
//	block  u8 4 or 6, 4 or 16 octets address, u8 length of the prefix, location
//	order  u8 length, location, then for each PoP in order: u8 length, PoP
//	use    u8 Kind, u8 1 with Below, name in canonical wire form
//	pop    u8 State
//
// Which entries are in which block is a function of the entries alone: all, or those within
// one half of the addresses and, by themselves, the one that is for both halves, and so on,
// until what is in a block has at most blockSize octets. So a change of an entry changes one
// block, or the few near it that are split or joined by it.
const (
	blockSize = 4096 // octets of records, each with 2 octets length

	popsLabel = "pops"
	// DatasetsLabel stands in Zone above the zones of datasets that have maps of their own.
	DatasetsLabel = "_of"
	ordersLabel   = "orders"
	usesLabel     = "uses"
	v4Label       = "v4"
	v6Label       = "v6"

	ttl = 300 // of all of them, in seconds; nobody caches them
)

// RRsets checks the map and gives what it is in a dataset, in order of their keys. zone is
// Zone, or one below it.
func (m *Map) RRsets(zone record.Name) ([]record.RRset, error) {
	entries, err := m.check()
	if !zone.IsSubdomainOf(Zone) {
		err = errors.Join(err, fmt.Errorf("map %q: zone %s is not in %s", m.Name, zone, Zone))
	}
	if err != nil {
		return nil, err
	}
	base, err := zone.Child(m.Name)
	if err != nil {
		return nil, fmt.Errorf("map %q: %w", m.Name, err)
	}
	b := rrsets{}
	six, _ := slices.BinarySearchFunc(entries, 6, func(e Entry, _ int) int {
		return cmp.Compare(e.Prefix.Addr().BitLen(), 33)
	})
	for i, part := range [2][]Entry{entries[:six], entries[six:]} {
		if len(part) > 0 {
			whole := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if i == 1 {
				whole = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			b.split(base, whole, part, sizeOf(part))
		}
	}
	buckets := map[string][]record.Rdata{}
	for _, l := range slices.Sorted(maps.Keys(m.Orders)) {
		rd := appendText(nil, string(l))
		for _, p := range m.Orders[l] {
			rd = appendText(rd, string(p))
		}
		buckets[bucket(l)] = append(buckets[bucket(l)], record.Rdata(rd))
	}
	for k, data := range buckets {
		b.add(record.TypeMapOrder, data, base, ordersLabel, k)
	}
	if len(m.Uses) > 0 {
		data := make([]record.Rdata, len(m.Uses))
		for i, u := range m.Uses {
			data[i] = record.Rdata([]byte{byte(u.Kind), below(u.Below)}) + record.Rdata(u.Name)
		}
		b.add(record.TypeMapUse, data, base, usesLabel)
	}
	if b.err != nil {
		return nil, fmt.Errorf("map %q: %w", m.Name, b.err)
	}
	slices.SortFunc(b.list, func(x, y record.RRset) int { return x.Key.Compare(y.Key) })
	return b.list, nil
}

// Check tells why it is no PoP, or nil.
func (p PoP) Check() error {
	if err := checkLabel(p.Name); err != nil {
		return fmt.Errorf("PoP %w", err)
	}
	if p.State > Down {
		return fmt.Errorf("PoP %s: %s, expected 0 (up), 1 (drained) or 2 (down)", p.Name, p.State)
	}
	return nil
}

// RRset gives what the PoP is in a dataset.
func (p PoP) RRset(zone record.Name) (record.RRset, error) {
	if err := p.Check(); err != nil {
		return record.RRset{}, err
	}
	b := rrsets{}
	b.add(record.TypePoP, []record.Rdata{record.Rdata([]byte{byte(p.State)})}, zone, popsLabel, p.Name)
	if b.err != nil {
		return record.RRset{}, fmt.Errorf("PoP %s: %w", p.Name, b.err)
	}
	return b.list[0], nil
}

// rrsets gathers RRsets.
type rrsets struct {
	list []record.RRset
	err  error
}

// add makes an RRset at labels before base, the last one first.
func (b *rrsets) add(t record.Type, data []record.Rdata, base record.Name, labels ...string) {
	owner := base
	for _, l := range labels {
		var err error
		if owner, err = owner.Child(l); err != nil {
			b.err = errors.Join(b.err, err)
			return
		}
	}
	r := record.NewRRset(owner, t, ttl, data...)
	b.err = errors.Join(b.err, r.Check())
	b.list = append(b.list, r)
}

func sizeOf(entries []Entry) (n int) {
	for _, e := range entries {
		n += e.size()
	}
	return n
}

// size is how many octets an entry has in a block.
func (e Entry) size() int { return 2 + 2 + e.Prefix.Addr().BitLen()/8 + len(e.Location) }

// split makes blocks of the entries of one family within a prefix.
func (b *rrsets) split(base record.Name, in netip.Prefix, entries []Entry, size int) {
	if len(entries) == 0 {
		return
	}
	if size <= blockSize || len(entries) == 1 {
		data := make([]record.Rdata, len(entries))
		for i, e := range entries {
			data[i] = e.rdata()
		}
		family := v4Label
		if in.Addr().Is6() {
			family = v6Label
		}
		b.add(record.TypeMapBlock, data, base, family, blockLabel(in))
		return
	}
	if entries[0].Prefix == in {
		b.split(base, in, entries[:1], entries[0].size())
		size -= entries[0].size()
		entries = entries[1:]
	}
	low, high := halves(in)
	at, _ := slices.BinarySearchFunc(entries, high.Addr(), func(e Entry, a netip.Addr) int { return e.Prefix.Addr().Compare(a) })
	left := sizeOf(entries[:at])
	b.split(base, low, entries[:at], left)
	b.split(base, high, entries[at:], size-left)
}

// halves are the two prefixes that are one bit longer; p is no address.
func halves(p netip.Prefix) (low, high netip.Prefix) {
	bits := p.Bits()
	if p.Addr().Is4() {
		a := p.Addr().As4()
		a[bits/8] |= 0x80 >> (bits % 8)
		return netip.PrefixFrom(p.Addr(), bits+1), netip.PrefixFrom(netip.AddrFrom4(a), bits+1)
	}
	a := p.Addr().As16()
	a[bits/8] |= 0x80 >> (bits % 8)
	return netip.PrefixFrom(p.Addr(), bits+1), netip.PrefixFrom(netip.AddrFrom16(a), bits+1)
}

// blockLabel names the block of a prefix.
func blockLabel(p netip.Prefix) string {
	if p.Bits() == 0 {
		return "0"
	}
	return strconv.Itoa(p.Bits()) + "-" + hex.EncodeToString(p.Addr().AsSlice())[:(p.Bits()+3)/4]
}

// blockPrefix is the prefix that a label names in a family; false when there is none.
func blockPrefix(family, label string) (netip.Prefix, bool) {
	zero := netip.IPv4Unspecified()
	if family == v6Label {
		zero = netip.IPv6Unspecified()
	}
	size, digits, _ := strings.Cut(label, "-")
	bits, err := strconv.Atoi(size)
	if err != nil || bits < 0 || bits > zero.BitLen() || len(digits) != (bits+3)/4 {
		return netip.Prefix{}, false
	}
	octets, err := hex.DecodeString(digits + strings.Repeat("0", zero.BitLen()/4-len(digits)))
	if err != nil {
		return netip.Prefix{}, false
	}
	a, _ := netip.AddrFromSlice(octets)
	p := netip.PrefixFrom(a, bits)
	return p, p == p.Masked() && blockLabel(p) == label // one label only for a prefix
}

// bucket is where the order of a location is: by the last 4 bits of FNV-1a.
func bucket(l record.Location) string {
	h := fnv.New32a()
	h.Write([]byte(l))
	return strconv.FormatUint(uint64(h.Sum32()&0xf), 16)
}

func appendText(b []byte, s string) []byte { return append(append(b, byte(len(s))), s...) }

// rdata is the entry in a block.
func (e Entry) rdata() record.Rdata {
	b := make([]byte, 0, e.size())
	if e.Prefix.Addr().Is4() {
		a := e.Prefix.Addr().As4()
		b = append(append(b, 4), a[:]...)
	} else {
		a := e.Prefix.Addr().As16()
		b = append(append(b, 6), a[:]...)
	}
	return record.Rdata(append(append(b, byte(e.Prefix.Bits())), e.Location...))
}

// parseEntry reads an entry.
func parseEntry(rd string) (Entry, error) {
	size := 0
	switch {
	case rd != "" && rd[0] == 4:
		size = 4
	case rd != "" && rd[0] == 6:
		size = 16
	default:
		return Entry{}, fmt.Errorf("an entry begins with %q, expected 4 or 6", rd[:min(len(rd), 1)])
	}
	if len(rd) < 2+size {
		return Entry{}, fmt.Errorf("an entry has %d octets, expected %d and a location", len(rd), 2+size)
	}
	a := netip.AddrFrom4([4]byte([]byte(rd[1:5])))
	if size == 16 {
		a = netip.AddrFrom16([16]byte([]byte(rd[1:17])))
	}
	e := Entry{Prefix: netip.PrefixFrom(a, int(rd[1+size])), Location: record.Location(rd[2+size:])}
	if !e.Prefix.IsValid() {
		return e, fmt.Errorf("entry %s/%d has a length above %d", a, rd[1+size], a.BitLen())
	}
	return e, e.check()
}

// Part is what an RRset of a map is about.
type Part struct {
	Map   string       // empty: of a PoP
	Block netip.Prefix // of TypeMapBlock: what all entries lie in
	PoP   string       // of TypePoP
}

// PartOf tells what an RRset of a type of maps and PoPs is about. An error is an owner that
// has no such RRset.
func PartOf(k record.Key) (Part, error) {
	wrong := func(format string, args ...any) (Part, error) {
		return Part{}, fmt.Errorf("%s: %s", k, fmt.Sprintf(format, args...))
	}
	if k.Location != "" {
		return wrong("it is for a location, expected it for everybody")
	}
	if !k.Owner.IsSubdomainOf(Zone) {
		return wrong("its owner is not in %s", Zone)
	}
	labels := make([]string, 0, 3)
	n := k.Owner
	for n != Zone && len(labels) < 3 {
		labels = append(labels, string(n[1:1+n[0]]))
		n = n.Parent()
	}
	for len(labels) < 3 {
		labels = append(labels, "")
	}
	switch a, b, c := labels[0], labels[1], labels[2]; k.Type {
	case record.TypePoP:
		if b != popsLabel || checkLabel(a) != nil {
			return wrong("expected <pop>.%s.<zone>", popsLabel)
		}
		return Part{PoP: a}, nil
	case record.TypeMapUse:
		if a != usesLabel || checkName(b) != nil {
			return wrong("expected %s.<map>.<zone>", usesLabel)
		}
		return Part{Map: b}, nil
	case record.TypeMapOrder:
		if len(a) != 1 || b != ordersLabel || checkName(c) != nil {
			return wrong("expected <0-f>.%s.<map>.<zone>", ordersLabel)
		}
		return Part{Map: c}, nil
	case record.TypeMapBlock:
		p, ok := netip.Prefix{}, false
		if b == v4Label || b == v6Label {
			p, ok = blockPrefix(b, a)
		}
		if !ok || checkName(c) != nil {
			return wrong("expected <length>-<digits>.%s.<map>.<zone>, as in 17-c0000.%s.<map>.<zone>", v4Label, v4Label)
		}
		return Part{Map: c, Block: p}, nil
	}
	return wrong("its type is none of maps and PoPs")
}

// CheckRRset tells what is wrong with an RRset of a type of maps and PoPs by itself, or nil.
// Errors name the owner and the prefix, location or name in it.
func CheckRRset(r record.RRset) error {
	part, err := PartOf(r.Key)
	if err != nil {
		return err
	}
	wrong := func(err error) error { return fmt.Errorf("%s: %w", r.Key, err) }
	if len(r.Data) == 0 {
		return wrong(errors.New("it is empty"))
	}
	before := netip.Prefix{}
	var ordered []record.Location
	for _, rd := range r.Data {
		var err error
		switch r.Type {
		case record.TypeMapBlock:
			var e Entry
			e, err = parseEntry(string(rd))
			switch {
			case err != nil:
			case e.Prefix == before:
				err = fmt.Errorf("%s is there twice, expected one location for a prefix", e.Prefix)
			case e.Prefix.Bits() < part.Block.Bits() || !part.Block.Contains(e.Prefix.Addr()):
				err = fmt.Errorf("%s is not in %s, as the owner says", e.Prefix, part.Block)
			}
			before = e.Prefix
		case record.TypeMapOrder:
			var l record.Location
			switch l, _, err = parseOrder(string(rd)); {
			case err != nil:
			case slices.Contains(ordered, l):
				err = fmt.Errorf("location %q has two orders, expected one", string(l))
			case string(r.Owner[1:2]) != bucket(l):
				err = fmt.Errorf("the order of location %q is in another bucket than %s", string(l), bucket(l))
			}
			ordered = append(ordered, l)
		case record.TypeMapUse:
			_, err = parseUse(string(rd))
		case record.TypePoP:
			if len(rd) != 1 || State(rd[0]) > Down || len(r.Data) > 1 {
				err = fmt.Errorf("state %q, expected one octet 0 (up), 1 (drained) or 2 (down)", rd)
			}
		}
		if err != nil {
			return wrong(err)
		}
	}
	return nil
}

// parseOrder reads an order.
func parseOrder(rd string) (l record.Location, pops []record.Location, err error) {
	for first := true; rd != ""; first = false {
		n := 1 + int(rd[0])
		if n > len(rd) {
			return "", nil, errors.New("an order is cut off")
		}
		if first {
			l = record.Location(rd[1:n])
		} else {
			pops = append(pops, record.Location(rd[1:n]))
		}
		rd = rd[n:]
	}
	return l, pops, checkOrder(l, pops)
}

// parseUse reads a use; its Map is empty.
func parseUse(rd string) (Use, error) {
	if len(rd) < 3 || rd[0] > byte(BySubnet) || rd[1] > 1 {
		return Use{}, fmt.Errorf("a use begins with %q, expected 0 or 1 for its kind, 0 or 1 for names below, and a name", rd[:min(len(rd), 2)])
	}
	name, n, err := record.NameFromWire([]byte(rd[2:]))
	if err != nil {
		return Use{}, fmt.Errorf("name of a use: %w", err)
	}
	if string(name) != rd[2:] || n != len(rd)-2 {
		return Use{}, fmt.Errorf("name of the use %s is not in lower case, or something stands behind it", name)
	}
	return Use{Name: name, Kind: Kind(rd[0]), Below: rd[1] == 1}, nil
}

// ParseMaps reads maps and PoPs back from their RRsets, in any order; other types are not
// looked at. Maps and PoPs are in order of their names, entries in that of addresses. What
// cannot be read is an error that names it.
func ParseMaps(rrsets []record.RRset) (maps []Map, pops []PoP, err error) {
	at := map[string]int{}
	for _, r := range rrsets {
		if !r.Type.IsOwn() || r.Type == record.TypeTerms {
			continue
		}
		if err := CheckRRset(r); err != nil {
			return nil, nil, err
		}
		part, _ := PartOf(r.Key)
		if r.Type == record.TypePoP {
			pops = append(pops, PoP{part.PoP, State(r.Data[0][0])})
			continue
		}
		i, ok := at[part.Map]
		if !ok {
			i = len(maps)
			at[part.Map] = i
			maps = append(maps, Map{Name: part.Map})
		}
		m := &maps[i]
		for _, rd := range r.Data {
			switch r.Type {
			case record.TypeMapBlock:
				e, _ := parseEntry(string(rd))
				m.Entries = append(m.Entries, e)
			case record.TypeMapOrder:
				l, pops, _ := parseOrder(string(rd))
				if m.Orders == nil {
					m.Orders = map[record.Location][]record.Location{}
				}
				m.Orders[l] = pops
			case record.TypeMapUse:
				u, _ := parseUse(string(rd))
				m.Uses = append(m.Uses, u)
			}
		}
	}
	var errs []error
	for i := range maps {
		maps[i].Entries = maps[i].sorted()
		errs = append(errs, maps[i].Check())
	}
	slices.SortFunc(maps, func(a, b Map) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(pops, func(a, b PoP) int { return cmp.Compare(a.Name, b.Name) })
	return maps, pops, errors.Join(errs...)
}
