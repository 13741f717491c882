package assign

import (
	"context"
	"math"
)

// Price solves the transportation problem by successive shortest paths on the graph of
// PoPs, gives the prices that prove the optimum, and makes divided groups whole.
//
// Each group begins at the PoP with the least round-trip time and price. Where a PoP
// has more than its capacity, demand goes along the cheapest chain of moves to one with
// room: PoP j gives k the group that loses least by it, k gives one on, and so on. The
// edge from j to k is a heap of the groups at j by that loss. What capacity is not used
// is a group like the others, that costs nothing anywhere; with it the solution is the
// exact optimum, and not only a feasible one.
//
// From prices of 0 the chains are as many as groups must move. So the problem is solved
// for a sample of the demand first, then for a larger one, whose prices begin the next.
type Price struct{}

const (
	// firstSample is the size of the smallest sample, nextSample how many times larger the next is.
	// With 8,192 of equal demand, a PoP that has 1 % of it is known within some 10 %.
	firstSample, nextSample = 8192, 8
	// firstReach is how many microseconds of loss the heaps are made for at first; it grows
	// as much as is needed.
	firstReach = 500
)

// Assign implements Optimiser.
func (Price) Assign(ctx context.Context, p *Problem) (Assignment, error) {
	price, err := begin(ctx, p)
	if err != nil {
		return Assignment{}, err
	}
	f := newFlow(p, price)
	if err := f.run(ctx); err != nil {
		return Assignment{}, err
	}
	a := Assignment{Prices: f.prices(), Divided: len(f.divided)}
	if a.PoP, err = f.whole(ctx); err != nil {
		return Assignment{}, err
	}
	return a, nil
}

// Prices are those of the optimum, groups divided: what Bound gives with them is the optimum.
// from are prices to begin with, for example those of a problem that is much alike; nil: none.
func Prices(ctx context.Context, p *Problem, from []int64) ([]int64, error) {
	if from == nil {
		var err error
		if from, err = begin(ctx, p); err != nil {
			return nil, err
		}
	}
	f := newFlow(p, from)
	if err := f.run(ctx); err != nil {
		return nil, err
	}
	return f.prices(), nil
}

// begin gives prices near those of the optimum.
func begin(ctx context.Context, p *Problem) ([]int64, error) {
	price := prices(p.Capacity)
	for size := firstSample; size < len(p.Demand)/2; size *= nextSample {
		s := sample(p, size)
		f := newFlow(s, price)
		if err := f.run(ctx); err != nil {
			return nil, err
		}
		price = f.price
	}
	return price, nil
}

// sample is a problem of about size groups that have equal parts of the demand: each
// group is in it with a probability that is its share, and several times when it is
// larger than a part. Groups are taken along their order, so that neighbours, which are
// alike, are in it in proportion.
func sample(p *Problem, size int) *Problem {
	part := max(sum(p.Demand)/int64(size), 1)
	s := &Problem{RTT: p.RTT, Capacity: p.capacities()}
	if p.Home != nil {
		s.Home, s.Stay = []int16{}, []int32{}
	}
	passed := part / 2
	for g, d := range p.Demand {
		passed += d
		if passed < part {
			continue
		}
		row := int32(g)
		if p.Rows != nil {
			row = p.Rows[g]
		}
		s.Rows = append(s.Rows, row)
		s.Demand = append(s.Demand, passed/part*part)
		passed %= part
		if p.Home != nil {
			s.Home = append(s.Home, p.Home[g])
			stay := int32(0)
			if p.Stay != nil {
				stay = p.Stay[g]
			}
			s.Stay = append(s.Stay, stay)
		}
	}
	return s
}

// move is a group that may leave a PoP for another, with what that costs.
type move struct {
	loss  int32 // microseconds, before prices
	group int32
}

// edge is from one PoP to another: the groups that may go, who loses least first.
type edge struct {
	heap[move]
	limit int64 // groups that lose more than this are not in it
}

// portion is the part of a divided group that is at a PoP.
type portion struct {
	pop  int16
	size int64
}

const (
	divided = -1 // in flow.at: see flow.divided
	slack   = -1 // for a group: capacity that is not used
)

// flow is a solution that is optimal for its prices and may exceed capacities.
type flow struct {
	p        *Problem
	m        int
	capacity []int64
	price    []int64

	at      []int16             // PoP of each group, or divided
	divided map[int32][]portion // by group
	load    []int64
	slack   []int64 // capacity of each PoP that is not to be used

	edges []edge  // from × m + to; made when a PoP is passed first
	reach []int64 // of each PoP: for how much loss its edges were made; 0: not yet

	// What edges cost, from × m + to, and by whom; of a PoP whose row is stale it is looked up
	// anew when that is passed: most rows are what they were at the search before.
	ways  []way
	stale []bool
}

// way is what it costs to move something along an edge.
type way struct {
	loss  int64 // microseconds, before prices; far: there is nothing to move
	group int32 // or slack
	known bool  // else the loss is a bound that is not above it
}

func newFlow(p *Problem, price []int64) *flow {
	m := len(p.Capacity)
	f := &flow{
		p: p, m: m, capacity: p.capacities(), price: append([]int64(nil), price...),
		at: make([]int16, len(p.Demand)), divided: map[int32][]portion{}, slack: make([]int64, m),
		edges: make([]edge, m*m), reach: make([]int64, m), ways: make([]way, m*m), stale: make([]bool, m),
	}
	for j := range f.stale {
		f.stale[j] = true
	}
	least := int64(math.MaxInt64)
	for j, c := range f.capacity {
		if c > 0 {
			least = min(least, f.price[j])
		}
	}
	for j, c := range f.capacity {
		if c > 0 {
			f.price[j] -= least
		} else {
			f.price[j] = shut
		}
	}
	nearest(p, f.price, f.at)
	f.load = p.Loads(f.at)
	// What is not used is where the price is 0: as much as there is room, and the rest
	// on top, from where it finds its way like demand.
	left, last := sum(f.capacity)-sum(p.Demand), -1
	for j, c := range f.capacity {
		if c > 0 && f.price[j] == 0 {
			last = j
			take := min(left, max(c-f.load[j], 0))
			f.slack[j] += take
			left -= take
		}
	}
	f.slack[last] += left
	return f
}

// over is what PoP j has above its capacity; below 0: room.
func (f *flow) over(j int) int64 { return f.load[j] + f.slack[j] - f.capacity[j] }

// run moves demand until no PoP has more than its capacity.
func (f *flow) run(ctx context.Context) error {
	s := search{dist: make([]int64, f.m), from: make([]int, f.m), by: make([]way, f.m), done: make([]bool, f.m)}
	for steps := 0; ; steps++ {
		if steps%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		to := f.shortest(&s)
		if to < 0 {
			return nil
		}
		again := false
		for k := to; s.from[k] >= 0; k = s.from[k] {
			if !s.by[k].known {
				f.grow(s.from[k])
				again = true
			}
		}
		if again {
			continue
		}
		for j := range f.m {
			if s.done[j] && s.dist[j] < s.dist[to] {
				f.price[j] += s.dist[to] - s.dist[j]
			}
		}
		size := -f.over(to)
		k := to
		for ; s.from[k] >= 0; k = s.from[k] {
			size = min(size, f.size(s.by[k].group, s.from[k]))
		}
		size = min(size, f.over(k))
		for k := to; s.from[k] >= 0; k = s.from[k] {
			f.move(s.by[k].group, s.from[k], k, size)
		}
	}
}

// search is the state of one search for the shortest path.
type search struct {
	dist []int64
	from []int // the PoP before, -1: none
	by   []way // the way from there
	done []bool
}

const far = math.MaxInt64

// shortest finds the PoP with room that is nearest to any PoP with too much, by
// Dijkstra's algorithm: edges are not negative with the prices on them. -1: none has too
// much, as together all have exactly the capacity.
func (f *flow) shortest(s *search) int {
	any := false
	for j := range f.m {
		s.dist[j], s.from[j], s.done[j] = far, -1, false
		if f.capacity[j] > 0 && f.over(j) > 0 {
			s.dist[j], any = 0, true
		}
	}
	if !any {
		return -1
	}
	for {
		j := -1
		for k := range f.m {
			if !s.done[k] && s.dist[k] != far && (j < 0 || s.dist[k] < s.dist[j]) {
				j = k
			}
		}
		if j < 0 {
			panic("assign: demand above all capacities") // newFlow makes them equal
		}
		if f.over(j) < 0 {
			return j
		}
		s.done[j] = true
		here := s.dist[j] - f.price[j]
		for k, w := range f.from(j) {
			if w.loss == far || s.done[k] {
				continue
			}
			if d := here + w.loss + f.price[k]; d < s.dist[k] {
				s.dist[k], s.from[k], s.by[k] = d, j, w
			}
		}
	}
}

// from are the ways from PoP j to each other.
func (f *flow) from(j int) []way {
	ways := f.ways[j*f.m : (j+1)*f.m]
	if f.reach[j] == 0 {
		f.grow(j)
	}
	if f.stale[j] {
		for k := range ways {
			if ways[k] = (way{loss: far}); k != j && f.capacity[k] > 0 {
				ways[k] = f.edge(j, k)
			}
		}
		f.stale[j] = false
	}
	return ways
}

// edge tells what it costs to move something from j to k, and what that is.
func (f *flow) edge(j, k int) way {
	e := &f.edges[j*f.m+k]
	for len(e.items) > 0 && f.size(e.items[0].group, j) == 0 {
		e.pop()
	}
	w := way{loss: far, known: true}
	switch {
	case len(e.items) > 0:
		w.loss, w.group = int64(e.items[0].loss), e.items[0].group
	case e.limit != far:
		w.loss, w.known = e.limit+1, false
	}
	if f.slack[j] > 0 && w.loss >= 0 {
		w = way{0, slack, true}
	}
	return w
}

// size is how much of a group is at PoP j.
func (f *flow) size(g int32, j int) int64 {
	if g == slack {
		return f.slack[j]
	}
	if f.at[g] == int16(j) {
		return f.p.Demand[g]
	}
	if f.at[g] == divided {
		for _, part := range f.divided[g] {
			if part.pop == int16(j) {
				return part.size
			}
		}
	}
	return 0
}

// move brings part of a group from j to k.
func (f *flow) move(g int32, j, k int, size int64) {
	f.stale[j], f.stale[k] = true, true
	if g == slack {
		f.slack[j] -= size
		f.slack[k] += size
		return
	}
	f.load[j] -= size
	f.load[k] += size
	arrives := f.size(g, k) == 0
	if f.at[g] == int16(j) && size == f.p.Demand[g] {
		f.at[g] = int16(k)
	} else {
		parts := f.divided[g]
		if f.at[g] != divided {
			parts = []portion{{f.at[g], f.p.Demand[g]}}
			f.at[g] = divided
		}
		if arrives {
			parts = append(parts, portion{int16(k), 0})
		}
		kept := parts[:0]
		for _, part := range parts {
			switch part.pop {
			case int16(j):
				part.size -= size
			case int16(k):
				part.size += size
			}
			if part.size > 0 {
				kept = append(kept, part)
			}
		}
		if len(kept) == 1 {
			f.at[g] = kept[0].pop
			delete(f.divided, g)
		} else {
			f.divided[g] = kept
		}
	}
	if arrives && f.reach[k] > 0 {
		f.enter(g, k)
	}
}

// enter puts a group that is at j into the edges of j, as far as they reach.
func (f *flow) enter(g int32, j int) {
	here := f.p.cost(int(g), j)
	for k := range f.m {
		if k == j || f.capacity[k] == 0 {
			continue
		}
		e := &f.edges[j*f.m+k]
		if loss := f.p.cost(int(g), k) - here; loss <= e.limit {
			e.push(move{int32(loss), g})
		}
	}
}

func lessMove(a, b move) bool { return a.loss < b.loss || a.loss == b.loss && a.group < b.group }

// grow makes the edges of a PoP anew, for more loss.
func (f *flow) grow(j int) {
	switch {
	case f.reach[j] == 0:
		f.reach[j] = firstReach
	case f.reach[j] < 2*MaxRTT:
		f.reach[j] *= 4
	default:
		f.reach[j] = far
	}
	f.stale[j] = true
	from := f.edges[j*f.m : (j+1)*f.m]
	for k := range from {
		e := &from[k]
		e.items, e.less = e.items[:0], lessMove
		switch {
		case k == j || f.capacity[k] == 0 || f.reach[j] == far:
			e.limit = far
		default:
			e.limit = f.reach[j] + f.price[j] - f.price[k]
		}
	}
	for g, at := range f.at {
		if at != int16(j) && (at != divided || f.size(int32(g), j) == 0) || f.p.Demand[g] == 0 {
			continue
		}
		here, row := f.p.cost(g, j), f.p.row(g)
		home := -1
		if f.p.Stay != nil {
			home = int(f.p.Home[g])
		}
		for k, c := range row {
			if k == j || f.capacity[k] == 0 {
				continue
			}
			loss := int64(c) - here
			if k == home {
				loss -= int64(f.p.Stay[g])
			}
			if loss <= from[k].limit {
				from[k].items = append(from[k].items, move{int32(loss), int32(g)})
			}
		}
	}
	for k := range from {
		from[k].order()
	}
}

// prices are those of an Assignment: the least is 0.
func (f *flow) prices() []int64 {
	least, out := int64(math.MaxInt64), make([]int64, f.m)
	for j, c := range f.capacity {
		if c > 0 {
			least = min(least, f.price[j])
		}
	}
	for j, c := range f.capacity {
		if out[j] = -1; c > 0 {
			out[j] = f.price[j] - least
		}
	}
	return out
}
