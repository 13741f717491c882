package plan

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/zonecast/zonecast/mapper/assign"
	"github.com/zonecast/zonecast/mapper/table"
)

// None is the number of no PoP.
const None = -1

// Order is the PoPs of a prefix by their numbers in the table, the first that is up serves; None
// where there is no further one.
type Order [3]int16

// Plan is a map of a table.
type Plan struct {
	Table  *table.Table
	Orders []Order // of each prefix
	// Prices are microseconds that more room in a PoP would save for each unit of demand; nil: the
	// algorithm has none. -1 of a PoP that is closed.
	Prices []int64
	// Home is where each prefix was, None nowhere; nil: there was no map.
	Home []int16
	// Default is the order for who is in no prefix.
	Default Order

	Figures Figures
	Churn   Churn
	Losses  []Loss // one for each open PoP, in their order
}

// Churn is how a plan differs from the map that was in force, in parts of the demand.
type Churn struct {
	Moved    float64 // by Gain and of necessity
	Gain     float64 // less round-trip time, by more than the threshold
	Deferred float64 // would gain, and is put off
}

// Loss is what happens when a PoP is lost.
type Loss struct {
	PoP int
	// Demand of the PoP, and Room of the others for it, in the table's unit.
	Demand, Room float64
	// Worst is the largest load of another PoP in parts of its capacity, at PoP number At; None
	// when there is no other.
	Worst float64
	At    int
	// Mean is the demand-weighted mean round-trip time afterwards, in milliseconds, of all demand.
	Mean float64
}

// Previous says where prefixes were: the names of PoPs, the first that is up served. nil for a
// prefix of which nothing is said.
type Previous func(i int) []string

// ErrNoneOpen says that there is nowhere to send anybody.
var ErrNoneOpen = errors.New("no PoP is open: all are drained or have capacity 0; undrain one, or give it capacity")

// work is a plan in the making.
type work struct {
	*Plan
	set       Settings
	problem   assign.Problem // with the whole capacities
	limit     []int64        // capacities less the headroom
	unit      float64        // of problem's demand in one of the table's
	at        []int16
	second    []int16 // where the map in force has the second choice
	displaced []bool  // prefixes that were at a PoP that is closed now
	displace  bool    // there is one with demand
}

// Compute makes a plan. The table has no gaps; previous may be nil.
func Compute(ctx context.Context, t *table.Table, previous Previous, set Settings) (*Plan, error) {
	if err := set.Check(); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(t.PoPs, table.PoP.Open) {
		return nil, ErrNoneOpen
	}
	if set.Pins != nil && len(set.Pins) != len(t.Prefixes) {
		return nil, fmt.Errorf("%d pins for %d prefixes", len(set.Pins), len(t.Prefixes))
	}
	w := &work{Plan: &Plan{Table: t}, set: set}
	w.scale()
	if err := w.problem.Check(); err != nil {
		return nil, fmt.Errorf("compute map: %w", err)
	}
	if previous != nil {
		w.homes(previous)
	}
	bound, err := w.first(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.orders(ctx); err != nil {
		return nil, err
	}
	w.Figures = Measure(t, func(i int) int { return int(w.Orders[i][0]) })
	w.Figures.bound(w, bound)
	w.losses()
	w.byDefault()
	return w.Plan, nil
}

// scale makes demand and capacities whole numbers, of a unit that is a power of two: whole
// numbers stay what they are, but for capacities above twice the demand. These are as good as that, and
// would leave no digits for the demand.
func (w *work) scale() {
	t := w.Table
	demand, capacity := 0.0, 0.0
	for _, d := range t.Demand {
		demand += d
	}
	useful := func(capacity float64) float64 {
		if demand > 0 {
			return min(capacity, 2*demand)
		}
		return capacity
	}
	for _, p := range t.PoPs {
		if p.Open() {
			capacity += useful(p.Capacity)
		}
	}
	exponent := 0
	if largest := max(demand, capacity); largest > 0 {
		_, e := math.Frexp(largest)
		exponent = 50 - e
	}
	w.unit = math.Ldexp(1, exponent)
	p := &w.problem
	p.RTT = t.RTT
	p.Demand, p.Capacity = make([]int64, len(t.Demand)), make([]int64, len(t.PoPs))
	w.limit = make([]int64, len(t.PoPs))
	for i, d := range t.Demand {
		if d > 0 {
			p.Demand[i] = max(int64(math.Round(d*w.unit)), 1)
		}
	}
	for j, pop := range t.PoPs {
		if pop.Open() {
			p.Capacity[j] = max(int64(useful(pop.Capacity)*w.unit), 1)
			w.limit[j] = max(int64(useful(pop.Capacity*(1-w.set.Headroom))*w.unit), 1)
		}
	}
}

// homes finds where prefixes are now: hosts have gone on to the first of the order that is open.
func (w *work) homes(previous Previous) {
	number := map[string]int16{}
	for j, p := range w.Table.PoPs {
		number[p.Name] = int16(j)
	}
	n := len(w.Table.Prefixes)
	w.Home, w.second = make([]int16, n), make([]int16, n)
	w.displaced = make([]bool, n)
	stay := make([]int32, n)
	for i := range n {
		w.Home[i], w.second[i] = None, None
		for k, name := range previous(i) {
			j, known := number[name]
			open := known && w.Table.PoPs[j].Open()
			switch {
			case !open && k == 0:
				w.displaced[i] = true
				w.displace = w.displace || w.problem.Demand[i] > 0
			case !open:
			case w.Home[i] == None:
				w.Home[i] = j
			case w.second[i] == None:
				w.second[i] = j
			}
		}
		if h := w.Home[i]; h != None {
			stay[i] = w.threshold(i, int(h))
		}
	}
	w.problem.Home, w.problem.Stay = w.Home, stay
}

// threshold is what prefix i must gain to leave PoP h, in microseconds.
func (w *work) threshold(i, h int) int32 {
	rtt := w.Table.Row(i)[h]
	return min(max(int32(w.set.Hysteresis.Microseconds()), int32(w.set.HysteresisShare*float64(rtt))), assign.MaxRTT)
}

// first chooses the first PoP of each prefix, and gives prices that bound what is possible.
func (w *work) first(ctx context.Context) (prices []int64, err error) {
	algorithm, err := assign.Find(w.set.Algorithm)
	if err != nil {
		return nil, err
	}
	p := w.problem
	p.Capacity = w.limit
	w.pin(&p)
	free := p // without the map in force: what would be best
	free.Home, free.Stay = nil, nil
	if w.Home == nil || !w.only(ctx, algorithm) {
		a, err := algorithm.Assign(ctx, &p)
		if err != nil {
			return nil, fmt.Errorf("compute map: %w", err)
		}
		w.at, w.Prices = a.PoP, a.Prices
	}
	if w.Home != nil || w.Prices == nil {
		if prices, err = assign.Prices(ctx, &free, w.Prices); err != nil {
			return nil, fmt.Errorf("compute bound: %w", err)
		}
		if w.Prices != nil || algorithm.Name == "price" {
			w.Prices = prices
		}
	} else {
		prices = w.Prices
	}
	for i := range w.at {
		if w.pinned(i) {
			w.at[i] = w.set.Pins[i]
		}
	}
	if w.Home != nil {
		w.settle()
	}
	return prices, nil
}

// pinned tells whether people chose the PoP of prefix i, and it is open.
func (w *work) pinned(i int) bool {
	return w.set.Pins != nil && w.set.Pins[i] != None && w.problem.Capacity[w.set.Pins[i]] > 0
}

// pin takes who is pinned out of a problem, and the room that they have.
func (w *work) pin(p *assign.Problem) {
	if w.set.Pins == nil {
		return
	}
	p.Demand, p.Capacity = slices.Clone(p.Demand), slices.Clone(p.Capacity)
	for i := range p.Demand {
		if w.pinned(i) {
			j := w.set.Pins[i]
			p.Capacity[j] = max(p.Capacity[j]-p.Demand[i], 1) // a PoP that is full is open still
			p.Demand[i] = 0
		}
	}
}

// only assigns those alone that were at a PoP that is closed now, when they have room
// beside the others; false: they have not, or there are none.
func (w *work) only(ctx context.Context, algorithm assign.Algorithm) bool {
	if !w.displace {
		return false
	}
	at := slices.Clone(w.Home)
	p := assign.Problem{RTT: w.problem.RTT, Capacity: slices.Clone(w.problem.Capacity), Home: []int16{}, Stay: []int32{}}
	var members []int
	for i, h := range w.Home {
		if w.pinned(i) {
			h = w.set.Pins[i]
			at[i] = h
		}
		if h != None && (!w.displaced[i] || w.pinned(i)) {
			p.Capacity[h] -= w.problem.Demand[i]
			continue
		}
		members = append(members, i)
		p.Rows = append(p.Rows, int32(i))
		p.Demand = append(p.Demand, w.problem.Demand[i])
		p.Home = append(p.Home, h)
		p.Stay = append(p.Stay, w.problem.Stay[i])
	}
	room, demand := int64(0), int64(0)
	for _, c := range p.Capacity {
		if c < 0 {
			return false
		}
		room += c
	}
	for _, d := range p.Demand {
		demand += d
	}
	if demand > room {
		return false
	}
	a, err := algorithm.Assign(ctx, &p)
	if err != nil {
		return false
	}
	for k, i := range members {
		at[i] = a.PoP[k]
	}
	for j, l := range w.problem.Loads(at) {
		if l > w.problem.Capacity[j] {
			return false
		}
	}
	w.at = at
	return true
}

// OrderFor is the order for who is in no prefix of the table and has these round-trip times, in microseconds: the
// nearest that are open, the room of those that are full at its price.
func (p *Plan) OrderFor(row []int32) Order {
	o := Order{None, None, None}
	for k := range o {
		best, least := None, int64(math.MaxInt64)
		for j, v := range row {
			cost := int64(v)
			if p.Prices != nil {
				cost += max(p.Prices[j], 0)
			}
			if p.Table.PoPs[j].Open() && cost < least && !slices.Contains(o[:k], int16(j)) {
				best, least = j, cost
			}
		}
		o[k] = int16(best)
	}
	return o
}

// settle keeps those at home who only gain, from the least gain on, until no more move than may,
// but for the one that crosses the bound, as far as their homes have room. So the largest gain
// is never put off for ever.
func (w *work) settle() {
	type move struct {
		gain int64 // demand × microseconds for each unit of demand
		i    int
	}
	load := w.problem.Loads(w.at)
	total, moved := int64(0), int64(0)
	var moves []move
	for i, d := range w.problem.Demand {
		total += d
		h, k := w.Home[i], w.at[i]
		if h == None || h == k || w.displaced[i] || w.pinned(i) || d == 0 && w.set.MaxChurn > 0 {
			continue
		}
		moved += d
		row := w.Table.Row(i)
		moves = append(moves, move{int64(row[h]) - int64(row[k]), i})
	}
	slices.SortFunc(moves, func(a, b move) int { return cmp.Or(cmp.Compare(a.gain, b.gain), cmp.Compare(a.i, b.i)) })
	most := int64(w.set.MaxChurn * float64(total))
	for again := true; again; {
		again = false
		rest := moves[:0]
		for _, m := range moves {
			h, k, d := w.Home[m.i], w.at[m.i], w.problem.Demand[m.i]
			if moved-d < most || load[h]+d > w.limit[h] {
				rest = append(rest, m)
				continue
			}
			load[k] -= d
			load[h] += d
			w.at[m.i] = h
			moved -= d
			again = true
			if m.gain > 0 {
				w.Churn.Deferred += w.Table.Demand[m.i]
			}
		}
		moves = rest
	}
	demand := 0.0
	for i, d := range w.Table.Demand {
		demand += d
		h, k := w.Home[i], w.at[i]
		if h == None || h == k && !w.displaced[i] {
			continue
		}
		w.Churn.Moved += d
		if row := w.Table.Row(i); !w.displaced[i] && row[h]-row[k] > w.threshold(i, int(h)) {
			w.Churn.Gain += d
		}
	}
	if demand > 0 {
		w.Churn.Moved /= demand
		w.Churn.Gain /= demand
		w.Churn.Deferred /= demand
	}
}
