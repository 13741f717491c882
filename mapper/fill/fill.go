package fill

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"runtime"
	"slices"
	"sync"

	"github.com/zonecast/zonecast/mapper/assign"
	"github.com/zonecast/zonecast/mapper/table"
)

// Place is where a prefix is. What is not known is zero.
type Place struct {
	AS                  uint32
	Country, Continent  [2]byte // ISO 3166-1; AF, AN, AS, EU, NA, OC or SA
	Located             bool
	Latitude, Longitude float32 // degrees north and east
}

// floor is the least round-trip time from the place to a PoP, in microseconds.
func (p Place) floor(to table.PoP) int32 {
	return floor(Distance(float64(p.Latitude), float64(p.Longitude), to.Latitude, to.Longitude))
}

// Level is where an estimate comes from.
type Level uint8

// The levels, the best first.
const (
	Measured Level = iota
	Covering
	System
	Country
	Continent
	Geography
	All
	Nothing // nobody was measured to the PoP
	levels
)

// String is the level for people.
func (l Level) String() string {
	if l >= levels {
		return fmt.Sprintf("level %d", uint8(l))
	}
	return [...]string{"measured", "covering prefix", "AS", "country", "continent", "distance", "all prefixes", "nothing"}[l]
}

const (
	// fewest is of how many prefixes the median of a group must be: one liar does not move that of three.
	fewest = 3
	// most is of how many it is at most; they are taken evenly from all.
	most = 1001
	// unknown is the least estimate to a PoP to which nobody was measured, in microseconds: nobody
	// is sent there who can go elsewhere.
	unknown = 1_000_000
	// stretch is how much longer paths take than light in vacuum along the great circle: 1.5 for
	// fibre, times 1.4 for where fibres lie. Only how PoPs compare depends on it.
	stretch = 2.1
)

// Filled is what Fill did, and can say it of a prefix.
type Filled struct {
	t      *table.Table
	places []Place
	// Cells counts prefixes × PoPs by where their times come from.
	Cells [levels]int
	// Struck counts, for each PoP, times that light forbids. Suspect are PoPs that contradict
	// others again and again: coordinates are wrong, and their times are believed.
	Struck  []int
	Suspect []bool

	measured []uint64 // a bit for each cell
	around   []int32  // the closest longer-known prefix around each, -1: none
	missing  bool     // a time is, and what is below is there
	groups   [All + 1]group
	beyond   [All + 1]group // of what times are above geography, for who has a place
	last     int32          // microseconds that lines of clients add to geography
}

// group is the medians of one level.
type group struct {
	number  []int32          // of each prefix; -1: none; nil: the level is not there
	index   map[uint32]int32 // number of each key
	medians []int32          // of group × PoP; unsaid
}

func (f *Filled) has(cell int) bool { return f.measured[cell/64]&(1<<(cell%64)) != 0 }

// Fill fills the gaps of a table, in place. places has one for each prefix; nil: nothing is known.
func Fill(t *table.Table, places []Place) (*Filled, error) {
	if places != nil && len(places) != len(t.Prefixes) {
		return nil, fmt.Errorf("%d places for %d prefixes", len(places), len(t.Prefixes))
	}
	f := &Filled{t: t, places: places}
	f.Struck, f.Suspect = strike(t, places)
	m := len(t.PoPs)
	f.measured = make([]uint64, (len(t.RTT)+63)/64)
	for i, r := range t.RTT {
		if r == table.Missing {
			f.missing = true
		} else {
			f.measured[i/64] |= 1 << (i % 64)
		}
	}
	for _, w := range f.measured {
		f.Cells[Measured] += bits.OnesCount64(w)
	}
	if !f.missing {
		return f, nil
	}
	f.nest()
	f.group()
	counts := make([][levels]int, parts)
	rows := make([]int32, len(t.RTT)) // filled apart: what is measured only is looked at meanwhile
	each(len(t.Prefixes), func(part, from, to int) {
		e := estimator{f: f}
		for i := from; i < to; i++ {
			for j := range m {
				v, level := e.cell(i, j)
				rows[i*m+j] = v
				if level != Measured {
					counts[part][level]++
				}
			}
		}
	})
	for _, c := range counts {
		for l := range c {
			f.Cells[l] += c[l]
		}
	}
	t.RTT = rows
	return f, nil
}

func code(c [2]byte) uint32 { return uint32(c[0])<<8 | uint32(c[1]) }

// nest finds the prefix around each.
func (f *Filled) nest() {
	order := make([]int32, len(f.t.Prefixes))
	for i := range order {
		order[i] = int32(i)
	}
	at := f.t.Prefixes
	slices.SortFunc(order, func(a, b int32) int {
		return cmp.Or(at[a].Addr().Compare(at[b].Addr()), cmp.Compare(at[a].Bits(), at[b].Bits()))
	})
	f.around = make([]int32, len(order))
	var open []int32
	for _, i := range order {
		for len(open) > 0 && !contains(at[open[len(open)-1]], at[i]) {
			open = open[:len(open)-1]
		}
		f.around[i] = -1
		if len(open) > 0 {
			f.around[i] = open[len(open)-1]
		}
		open = append(open, i)
	}
}

func contains(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }

// key is what prefixes of a level have in common; false: a place has none.
func (p Place) key(l Level) (uint32, bool) {
	switch l {
	case System:
		return p.AS, p.AS != 0
	case Country:
		return code(p.Country), p.Country != [2]byte{}
	case Continent:
		return code(p.Continent), p.Continent != [2]byte{}
	}
	return 0, false
}

// group makes the medians of prefixes with the same key: of their times, and of what these are
// above geography, since a group is not in one place.
func (f *Filled) group() {
	f.groups[All] = f.medians(make([]int32, len(f.t.Prefixes)), 1, 1, f.time)
	if f.places == nil {
		return
	}
	f.last = f.lastMile()
	for l := System; l <= Continent; l++ {
		number := make([]int32, len(f.places))
		index := map[uint32]int32{}
		for i, p := range f.places {
			number[i] = -1
			if k, ok := p.key(l); ok {
				n, there := index[k]
				if !there {
					n = int32(len(index))
					index[k] = n
				}
				number[i] = n
			}
		}
		f.groups[l] = f.medians(number, len(index), fewest, f.time)
		f.groups[l].index = index
		f.beyond[l] = f.medians(number, len(index), fewest, func(i, j int) (int32, bool) {
			v, g := f.t.Row(i)[j], f.geography(i, j)
			return v - g, v != table.Missing && g != table.Missing
		})
	}
}

// time is what was measured from prefix i to PoP j.
func (f *Filled) time(i, j int) (int32, bool) {
	v := f.t.Row(i)[j]
	return v, v != table.Missing
}

// unsaid is no median.
const unsaid = math.MinInt32

// medians are those of count groups, of what value gives of prefixes and PoPs.
func (f *Filled) medians(number []int32, count, fewest int, value func(i, j int) (int32, bool)) group {
	m := len(f.t.PoPs)
	starts := make([]int32, count+1)
	for _, n := range number {
		if n >= 0 {
			starts[n+1]++
		}
	}
	for n := range count {
		starts[n+1] += starts[n]
	}
	members := make([]int32, starts[count])
	next := slices.Clone(starts)
	for i, n := range number {
		if n >= 0 {
			members[next[n]] = int32(i)
			next[n]++
		}
	}
	g := group{number: number, medians: slices.Repeat([]int32{unsaid}, count*m)}
	each(count*m, func(_, from, to int) { // cells, as one group may have all prefixes
		var values []int32
		for cell := from; cell < to; cell++ {
			n, j := cell/m, cell%m
			values = values[:0]
			of := members[starts[n]:starts[n+1]]
			for step, at := max(len(of)/most, 1), 0; at < len(of); at += step {
				if v, ok := value(int(of[at]), j); ok {
					values = append(values, v)
				}
			}
			if len(values) >= fewest {
				g.medians[cell] = median(values)
			}
		}
	})
	return g
}

// lastMile is how much longer times are than by geography alone: the median of prefixes that
// have a place, 0 when there are none.
func (f *Filled) lastMile() int32 {
	var all, row []int32
	for i := 0; i < len(f.places); i += max(len(f.places)/most, 1) {
		row = row[:0]
		for j, v := range f.t.Row(i) {
			if g := f.geography(i, j); v != table.Missing && g != table.Missing {
				row = append(row, v-g)
			}
		}
		if len(row) > 0 {
			all = append(all, median(row))
		}
	}
	if len(all) == 0 {
		return 0
	}
	return max(median(all), 0)
}

// geography is the time that a path over the distance from a prefix to a PoP takes.
func (f *Filled) geography(i, j int) int32 {
	if f.places == nil {
		return table.Missing
	}
	return f.distance(f.places[i], j)
}

func (f *Filled) distance(p Place, j int) int32 {
	q := f.t.PoPs[j]
	if !p.Located || !q.Located || f.Suspect[j] {
		return table.Missing
	}
	km := Distance(float64(p.Latitude), float64(p.Longitude), q.Latitude, q.Longitude)
	return min(int32(km/kmPerMS*stretch*1000)+f.last, assign.MaxRTT)
}

// estimator has what one goroutine needs.
type estimator struct {
	f      *Filled
	values []int32
}

// known is what a level says of prefix i to PoP j; Missing: nothing.
func (f *Filled) known(l Level, i, j int) int32 {
	if l == Geography {
		return f.geography(i, j)
	}
	if f.groups[l].number == nil {
		return table.Missing
	}
	return f.said(l, f.groups[l].number[i], j, f.geography(i, j))
}

// said is what group n of a level says of PoP j for who is near by geography; Missing: nothing.
func (f *Filled) said(l Level, n int32, j int, near int32) int32 {
	if n < 0 {
		return table.Missing
	}
	cell := int(n)*len(f.t.PoPs) + j
	if g := &f.beyond[l]; g.number != nil && near != table.Missing {
		if v := g.medians[cell]; v != unsaid {
			return max(v+near, 0)
		}
	}
	if v := f.groups[l].medians[cell]; v != unsaid {
		return v
	}
	return table.Missing
}

// At estimates the times to each PoP from a place of which no prefix is in the table, and says where the
// estimate to the nearest comes from. It is not to be called by two goroutines at a time.
func (f *Filled) At(p Place) (row []int32, from Level) {
	if f.groups[All].number == nil {
		f.group()
	}
	row, from = make([]int32, len(f.t.PoPs)), Nothing
	best := int32(math.MaxInt32)
	for j := range row {
		near, level := f.distance(p, j), Nothing
		row[j] = unknown
		for l := System; l <= All; l++ {
			v := int32(table.Missing)
			switch {
			case l == Geography:
				v = near
			case l == All:
				v = f.said(l, 0, j, table.Missing)
			case f.groups[l].index != nil:
				if k, ok := p.key(l); ok {
					if n, ok := f.groups[l].index[k]; ok {
						v = f.said(l, n, j, near)
					}
				}
			}
			if v != table.Missing {
				row[j], level = min(v, assign.MaxRTT), l
				break
			}
		}
		if row[j] < best {
			best, from = row[j], level
		}
	}
	return row, from
}

// cell is the time from prefix i to PoP j.
func (e *estimator) cell(i, j int) (int32, Level) {
	f, m := e.f, len(e.f.t.PoPs)
	if f.has(i*m + j) {
		return f.t.RTT[i*m+j], Measured
	}
	for at := f.around[i]; at >= 0; at = f.around[at] {
		if f.has(int(at)*m + j) {
			return e.shift(i, j, f.t.RTT[int(at)*m+j], func(k int) int32 { return f.t.RTT[int(at)*m+k] }), Covering
		}
	}
	for l := System; l <= All; l++ {
		if v := f.known(l, i, j); v != table.Missing {
			return e.shift(i, j, v, func(k int) int32 { return f.known(l, i, k) }), l
		}
	}
	return max(unknown, f.worse(i)), Nothing
}

// worse is a time that is longer than the best that was measured from prefix i; 0: nothing was.
func (f *Filled) worse(i int) int32 {
	m := len(f.t.PoPs)
	best := int32(table.Missing)
	for j := range m {
		if cell := i*m + j; f.has(cell) && (best == table.Missing || f.t.RTT[cell] < best) {
			best = f.t.RTT[cell]
		}
	}
	return min(best+1, assign.MaxRTT)
}

// shift moves an estimate by how much slower than others' the prefix's own times are. Without
// places these do not say where it is - who is close to one PoP is far from another - and a guess is
// never as good as the best of what was measured.
func (e *estimator) shift(i, j int, v int32, others func(k int) int32) int32 {
	f, m := e.f, len(e.f.t.PoPs)
	e.values = e.values[:0]
	for k := range m {
		if f.has(i*m + k) {
			if o := others(k); o != table.Missing {
				e.values = append(e.values, f.t.RTT[i*m+k]-o)
			}
		}
	}
	if len(e.values) > 0 {
		v += median(e.values)
	}
	low := f.worse(i)
	if f.places != nil && f.places[i].Located && f.t.PoPs[j].Located && !f.Suspect[j] {
		low = f.places[i].floor(f.t.PoPs[j])
	}
	return min(max(v, low), assign.MaxRTT)
}

// Source tells where the time from prefix i to PoP j comes from.
func (f *Filled) Source(i, j int) Level {
	if f.has(i*len(f.t.PoPs) + j) {
		return Measured
	}
	e := estimator{f: f}
	_, level := e.cell(i, j)
	return level
}

// parts is in how many parts work is divided, however many work at once.
const parts = 64

func each(n int, do func(part, from, to int)) {
	var wg sync.WaitGroup
	next := make(chan int, parts)
	for p := range parts {
		next <- p
	}
	close(next)
	for range min(runtime.GOMAXPROCS(0), parts) {
		wg.Go(func() {
			for p := range next {
				do(p, n*p/parts, n*(p+1)/parts)
			}
		})
	}
	wg.Wait()
}
