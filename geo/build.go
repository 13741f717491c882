package geo

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/zonecast/zonecast/record"
)

// The binary form, all numbers little-endian; also in docs/format/geo.md.
//
//	0    8 octets "zcgeo\x00\x01\x00": magic and version
//	8    u64 seed of the hashes of names
//	16   u32 locations, u32 maps, u32 uses, u32 slots (0, or a power of two above uses)
//	32   2 × u64 depths: bit n is set when a use has a name of n labels
//	48   u64 octets of text
//	56   locations: u32 offset in text, u32 length
//	     maps:      2 families (IPv4, IPv6), of each u64 offset, u32 ranges, u32 entries
//	     uses:      u64 hash, u32 offset of the name in text, u16 length, u8 Kind, u8 Below, u32 map, u32 0
//	     slots:     u32 use + 1, or 0; a use is in the first free one from hash mod slots on
//	     text
//	     at each offset of a map's family:
//	       starts of ranges, u32 or 2 × u64 (high, low), ascending; the first is 0
//	       their locations, u32: number + 1, or 0 for none
//	       starts of entries, as above, by start, then by length
//	       entries: u32 location as above, u32 number + 1 of the entry around it, or 0, u32 length of the prefix
const (
	magic        = "zcgeo\x00\x01\x00"
	headerSize   = 56
	locationSize = 8
	familySize   = 16
	mapSize      = 2 * familySize
	useSize      = 24
	slotSize     = 4
	entrySize    = 12
)

// builder puts an atlas into its binary form.
type builder struct {
	locations map[record.Location]uint32 // number + 1
	list      []record.Location
	text      []byte
	tables    []byte // of the families
}

// AppendBinary checks the atlas and appends its binary form. seed is for the hashes of
// names: equal atlases and seeds give equal octets.
func (a *Atlas) AppendBinary(dst []byte, seed uint64) ([]byte, error) {
	if err := a.Check(); err != nil {
		return dst, fmt.Errorf("compile maps of locations: %w", err)
	}
	b := builder{locations: map[record.Location]uint32{}}
	names := a.names()
	var maps []byte
	numbers := make(map[string]uint32, len(names))
	for i, name := range names {
		numbers[name] = uint32(i)
		entries := slices.Clone(a.Maps[name])
		slices.SortFunc(entries, func(x, y Entry) int { return x.Prefix.Compare(y.Prefix) })
		six := 0 // IPv4 is before it
		for six < len(entries) && entries[six].Prefix.Addr().Is4() {
			six++
		}
		for _, f := range [2]family{{4, entries[:six]}, {6, entries[six:]}} {
			maps = binary.LittleEndian.AppendUint64(maps, uint64(len(b.tables)))
			ranges := b.family(f)
			maps = binary.LittleEndian.AppendUint32(maps, uint32(ranges))
			maps = binary.LittleEndian.AppendUint32(maps, uint32(len(f.entries)))
		}
	}
	uses, slots, depths := b.uses(a.Uses, numbers, seed)
	var locations []byte
	for _, l := range b.list {
		locations = binary.LittleEndian.AppendUint32(locations, uint32(len(b.text)))
		locations = binary.LittleEndian.AppendUint32(locations, uint32(len(l)))
		b.text = append(b.text, l...)
	}
	if len(b.text) > math.MaxUint32 {
		return dst, fmt.Errorf("compile maps of locations: names and locations have %d octets, at most %d", len(b.text), uint32(math.MaxUint32))
	}
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint64(dst, seed)
	for _, n := range []int{len(b.list), len(names), len(a.Uses), len(slots) / slotSize} {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	}
	dst = binary.LittleEndian.AppendUint64(dst, depths[0])
	dst = binary.LittleEndian.AppendUint64(dst, depths[1])
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(b.text)))
	for _, part := range [][]byte{locations, maps, uses, slots, b.text, b.tables} {
		dst = append(dst, part...)
	}
	return dst, nil
}

// family is what a map has of IPv4 or IPv6, in order.
type family struct {
	number  int // 4 or 6
	entries []Entry
}

func (b *builder) location(l record.Location) uint32 {
	if l == "" {
		return 0
	}
	n, ok := b.locations[l]
	if !ok {
		b.list = append(b.list, l)
		n = uint32(len(b.list))
		b.locations[l] = n
	}
	return n
}

// family writes the tables of one family and gives the number of ranges.
func (b *builder) family(f family) int {
	type open struct {
		entry    int
		location uint32
		end      number
		over     bool
	}
	var starts []number
	var values []uint32
	begin := func(at number, location uint32) {
		if n := len(starts); n > 0 && starts[n-1] == at {
			starts, values = starts[:n-1], values[:n-1]
		}
		if n := len(values); n > 0 && values[n-1] == location {
			return
		}
		starts, values = append(starts, at), append(values, location)
	}
	begin(number{}, 0)
	var around []open // the prefixes around the next one, outermost first
	closeUntil := func(at number, all bool) {
		for n := len(around) - 1; n >= 0 && (all || !around[n].over && !at.Less(around[n].end)); n-- {
			top := around[n]
			around = around[:n]
			if top.over {
				continue // nothing is behind it
			}
			outer := uint32(0)
			if n > 0 {
				outer = around[n-1].location
			}
			begin(top.end, outer)
		}
	}
	var entryStarts, entries []byte
	for i, e := range f.entries {
		at := numberOf(e.Prefix.Addr())
		closeUntil(at, false)
		parent := uint32(0)
		if n := len(around); n > 0 {
			parent = uint32(around[n-1].entry) + 1
		}
		location := b.location(e.Location)
		entryStarts = appendStart(entryStarts, at, f.number)
		entries = binary.LittleEndian.AppendUint32(entries, location)
		entries = binary.LittleEndian.AppendUint32(entries, parent)
		entries = binary.LittleEndian.AppendUint32(entries, uint32(e.Prefix.Bits()))
		begin(at, location)
		o := open{entry: i, location: location}
		o.end, o.over = at.After(e.Prefix.Bits())
		around = append(around, o)
	}
	closeUntil(number{}, true)
	for _, s := range starts {
		b.tables = appendStart(b.tables, s, f.number)
	}
	for _, v := range values {
		b.tables = binary.LittleEndian.AppendUint32(b.tables, v)
	}
	b.tables = append(append(b.tables, entryStarts...), entries...)
	return len(starts)
}

func appendStart(dst []byte, n number, family int) []byte {
	if family == 4 {
		return binary.LittleEndian.AppendUint32(dst, uint32(n.Hi>>32))
	}
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(dst, n.Hi), n.Lo)
}

// uses writes what maps are used for, in the order of Atlas.Uses.
func (b *builder) uses(all []Use, numbers map[string]uint32, seed uint64) (uses, slots []byte, depths [2]uint64) {
	if len(all) == 0 {
		return nil, nil, depths
	}
	count := 2
	for count < 2*len(all) {
		count *= 2
	}
	slots = make([]byte, count*slotSize)
	for i, u := range all {
		h := hashUse([]byte(u.Name), u.Kind, u.Below, seed)
		uses = binary.LittleEndian.AppendUint64(uses, h)
		uses = binary.LittleEndian.AppendUint32(uses, uint32(len(b.text)))
		uses = binary.LittleEndian.AppendUint16(uses, uint16(len(u.Name)))
		uses = append(uses, byte(u.Kind), below(u.Below))
		uses = binary.LittleEndian.AppendUint32(uses, numbers[u.Map])
		uses = binary.LittleEndian.AppendUint32(uses, 0)
		b.text = append(b.text, u.Name...)
		n := u.Name.Labels()
		depths[n/64] |= 1 << (n % 64)
		slot := int(h & uint64(count-1))
		for binary.LittleEndian.Uint32(slots[slot*slotSize:]) != 0 {
			slot = (slot + 1) & (count - 1)
		}
		binary.LittleEndian.PutUint32(slots[slot*slotSize:], uint32(i)+1)
	}
	return uses, slots, depths
}

func below(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func hashUse(name []byte, kind Kind, isBelow bool, seed uint64) uint64 {
	return xxh3.HashSeed(name, seed+uint64(kind)<<1+uint64(below(isBelow)))
}
