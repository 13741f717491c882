package geo

import "slices"

// ranges are the addresses of one family in ranges of one value each, which do not change.
// Two ranges side by side have different values. A look-up touches one place in the index
// and, in a map of a million prefixes, one or two cache lines behind it.
type ranges struct {
	six  bool
	bits uint8 // of an address that say its slot: fewSlots or manySlots
	// index says for each slot, a prefix of bits bits, which is the first range that
	// starts in it or behind it. IPv6 has slots in 2000::/3 only: nobody is elsewhere.
	index []uint32
	// IPv4: where each range starts, ascending, the first 0; and the bits of that behind the
	// slot's, with the value in the lower half.
	starts, packed []uint32
	// IPv6: where each range starts, and its value.
	hi, lo []uint64
	values []uint16
}

const (
	fewSlots  = 16 // 256 KiB of index; the rest of an IPv4 address has room in half of packed
	manySlots = 18 // with more than manyRanges, of which some 8 are in a slot then
	// manyRanges: a map that is smaller is in a nearer cache anyway.
	manyRanges = 1 << 17
)

func (r *ranges) slots() int { return 1 << r.bits }

// slot is where in the index an address is: 0 to slots-1; below or above: before or behind
// all of it.
func (r *ranges) slot(a number) int {
	if !r.six {
		return int(a.Hi >> (64 - r.bits))
	}
	return int(a.Hi>>(64-3-r.bits)) - r.slots() // 2000::/3 is the second eighth
}

func (r *ranges) len() int { return len(r.starts) + len(r.hi) }

// find gives the range that an address is in.
func (r *ranges) find(a number) int {
	if !r.six {
		x := uint32(a.Hi >> 32)
		s := x >> ((32 - r.bits) & 31)
		low, high := r.index[s], r.index[s+1]
		key := r.rest(x)<<16 | 0xffff
		for low < high { // the first range behind a is in [low, high]
			mid := (low + high) / 2
			if r.packed[mid] <= key {
				low = mid + 1
			} else {
				high = mid
			}
		}
		return int(low) - 1
	}
	low, high := 0, len(r.hi)
	switch s := r.slot(a); {
	case s < 0:
		high = int(r.index[0])
	case s >= r.slots():
		low = int(r.index[r.slots()])
	default:
		low, high = int(r.index[s]), int(r.index[s+1])
	}
	for low < high {
		mid := int(uint(low+high) / 2)
		if r.hi[mid] < a.Hi || r.hi[mid] == a.Hi && r.lo[mid] <= a.Lo {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low - 1
}

// rest is the bits of an IPv4 address behind its slot, at most 16.
func (r *ranges) rest(x uint32) uint32 { return x << (r.bits & 31) >> (r.bits & 31) }

func (r *ranges) value(i int) uint16 {
	if !r.six {
		return uint16(r.packed[i])
	}
	return r.values[i]
}

func (r *ranges) start(i int) number {
	if !r.six {
		return number{Hi: uint64(r.starts[i]) << 32}
	}
	return number{Hi: r.hi[i], Lo: r.lo[i]}
}

// family is 4 or 6.
func (r *ranges) family() int {
	if r.six {
		return 6
	}
	return 4
}

// newRanges has one range of value 0, room for more, and no index: see add and done.
func newRanges(six bool, room int) *ranges {
	r := &ranges{six: six, bits: fewSlots}
	if room > manyRanges {
		r.bits = manySlots
	}
	r.index = make([]uint32, 0, r.slots()+1)
	if six {
		r.hi, r.lo, r.values = make([]uint64, 0, room), make([]uint64, 0, room), make([]uint16, 0, room)
	} else {
		r.starts, r.packed = make([]uint32, 0, room), make([]uint32, 0, room)
	}
	r.add(number{}, 0)
	return r
}

// add begins a range that is not before the last one. One that begins at the same address
// takes its place, one with the same value is the same.
func (r *ranges) add(at number, value uint16) {
	n := r.len()
	if n > 0 && r.start(n-1) == at {
		n--
		r.cut(n)
	}
	if n > 0 && r.value(n-1) == value {
		return
	}
	if r.six {
		r.hi, r.lo, r.values = append(r.hi, at.Hi), append(r.lo, at.Lo), append(r.values, value)
		return
	}
	x := uint32(at.Hi >> 32)
	r.starts, r.packed = append(r.starts, x), append(r.packed, r.rest(x)<<16|uint32(value))
}

func (r *ranges) cut(n int) {
	if r.six {
		r.hi, r.lo, r.values = r.hi[:n], r.lo[:n], r.values[:n]
		return
	}
	r.starts, r.packed = r.starts[:n], r.packed[:n]
}

// take adds the ranges from to before of another one, which are behind its own.
func (r *ranges) take(o *ranges, from, before int) {
	if from >= before {
		return
	}
	r.add(o.start(from), o.value(from))
	from++
	if r.six {
		r.hi, r.lo, r.values = append(r.hi, o.hi[from:before]...), append(r.lo, o.lo[from:before]...), append(r.values, o.values[from:before]...)
		return
	}
	r.starts, r.packed = append(r.starts, o.starts[from:before]...), append(r.packed, o.packed[from:before]...)
}

// done makes the index.
func (r *ranges) done() *ranges {
	slots := r.slots()
	for i := range r.len() {
		for s := min(max(r.slot(r.start(i))+1, 0), slots+1); len(r.index) < s; {
			r.index = append(r.index, uint32(i))
		}
	}
	for len(r.index) <= slots {
		r.index = append(r.index, uint32(r.len()))
	}
	return r
}

// entry is a prefix and its value.
type entry struct {
	at    number
	value uint16
	bits  uint8
}

func (e entry) compare(f entry) int {
	switch {
	case e.at.Less(f.at):
		return -1
	case f.at.Less(e.at):
		return 1
	}
	return int(e.bits) - int(f.bits)
}

// around tells whether e has all of f.
func (e entry) around(f entry) bool { return e.bits <= f.bits && f.at.Mask(int(e.bits)) == e.at }

// with gives the ranges with those in each of the areas made anew: value is what holds for an
// area as a whole, of gives the entries within it, in order. Areas are in order and none lies
// in another. entries is about how many there are in all.
func (r *ranges) with(areas []entry, entries int, of func(area entry, to []entry) []entry) *ranges {
	now := newRanges(r.six, max(r.len()+r.len()/64, entries)+64)
	next := 0 // the first range that is not dealt with
	var inside []entry
	var open []entry
	for _, area := range areas {
		end, last := area.at.After(int(area.bits))
		before := r.find(area.at)
		if r.start(before) != area.at {
			before++ // ranges that begin before the area
		}
		now.take(r, next, before)
		now.add(area.at, area.value)
		inside = of(area, inside[:0])
		open = append(open[:0], area)
		leave := func(at number, all bool) {
			for len(open) > 1 {
				top := open[len(open)-1]
				to, over := top.at.After(int(top.bits))
				if !all && (over || at.Less(to)) {
					return
				}
				open = open[:len(open)-1]
				if !over && (last || to != end) {
					now.add(to, open[len(open)-1].value)
				}
			}
		}
		for _, e := range inside {
			leave(e.at, false)
			now.add(e.at, e.value)
			open = append(open, e)
		}
		leave(number{}, true)
		next = r.len()
		if !last {
			i := r.find(end)
			now.add(end, r.value(i))
			next = i + 1
		}
	}
	now.take(r, next, r.len())
	return now.done()
}

// outermost drops areas that lie in others, and puts them in order.
func outermost(areas []entry) []entry {
	slices.SortFunc(areas, entry.compare)
	kept := areas[:0]
	for _, a := range areas {
		if len(kept) == 0 || !kept[len(kept)-1].around(a) {
			kept = append(kept, a)
		}
	}
	return kept
}
