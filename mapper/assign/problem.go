package assign

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"sync"
)

// Bounds of a problem: our own choice, so that sums stay exact in 64 bits.
const (
	// MaxRTT is the longest round-trip time, in microseconds: 10 s. What is slower is
	// not a path that anybody should be sent along.
	MaxRTT = 10_000_000
	// MaxPoPs is how many PoPs there may be: prices stay below MaxPoPs × MaxRTT.
	MaxPoPs = 1024
	// MaxTotal is the most that demands, and that capacities, may come to together.
	MaxTotal = 1 << 52
)

// Problem is what is to be assigned. It is not changed by an Optimiser.
type Problem struct {
	// RTT has one row for each row number that Rows may say, and in it one column for
	// each PoP: microseconds, 0 to MaxRTT.
	RTT []int32
	// Rows are the rows of RTT that the groups have; nil: group g has row g.
	Rows []int32
	// Demand is that of each group; 0 is a group that is assigned and counts nothing.
	Demand []int64
	// Capacity is that of each PoP, in units of demand; 0 gets nothing.
	Capacity []int64
	// Home is where each group is now, -1 nowhere; nil: no group is anywhere.
	Home []int16
	// Stay is how many microseconds less its home counts for each group; nil: none. A
	// group leaves only for what is better by more than that.
	Stay []int32
}

// ErrNoCapacity says that no PoP has any.
var ErrNoCapacity = errors.New("no PoP has capacity: all are drained, down, or of capacity 0")

// Check tells why p cannot be solved.
func (p *Problem) Check() error {
	m := len(p.Capacity)
	if m == 0 || m > MaxPoPs {
		return fmt.Errorf("%d PoPs, expected 1 to %d", m, MaxPoPs)
	}
	if len(p.Demand) > math.MaxInt32 {
		return fmt.Errorf("%d groups, at most %d", len(p.Demand), math.MaxInt32)
	}
	if len(p.RTT)%m != 0 || p.Rows == nil && len(p.RTT) != m*len(p.Demand) || p.Rows != nil && len(p.Rows) != len(p.Demand) {
		return fmt.Errorf("%d round-trip times and %d rows for %d groups and %d PoPs", len(p.RTT), len(p.Rows), len(p.Demand), m)
	}
	if p.Home != nil && len(p.Home) != len(p.Demand) || p.Stay != nil && (p.Home == nil || len(p.Stay) != len(p.Demand)) {
		return fmt.Errorf("%d homes, %d stays for %d groups", len(p.Home), len(p.Stay), len(p.Demand))
	}
	for _, of := range []struct {
		what   string
		values []int64
	}{{"demand", p.Demand}, {"capacity", p.Capacity}} {
		total := int64(0)
		for i, v := range of.values {
			if v < 0 || v > MaxTotal {
				return fmt.Errorf("%s %d is %d, expected 0 to %d", of.what, i, v, int64(MaxTotal))
			}
			if total += v; total > MaxTotal {
				return fmt.Errorf("%s of all is more than %d", of.what, int64(MaxTotal))
			}
		}
	}
	for _, r := range p.Rows {
		if r < 0 || int(r) >= len(p.RTT)/m {
			return fmt.Errorf("row %d, expected 0 to %d", r, len(p.RTT)/m-1)
		}
	}
	for _, h := range p.Home {
		if int(h) >= m || h < -1 {
			return fmt.Errorf("home %d, expected -1 to %d", h, m-1)
		}
	}
	for _, s := range p.Stay {
		if s < 0 || s > MaxRTT {
			return fmt.Errorf("stay %d µs, expected 0 to %d", s, MaxRTT)
		}
	}
	for i, c := range p.RTT {
		if c < 0 || c > MaxRTT {
			return fmt.Errorf("round-trip time %d is %d µs, expected 0 to %d", i, c, MaxRTT)
		}
	}
	if sum(p.Capacity) == 0 {
		return ErrNoCapacity
	}
	return nil
}

// row is what group g has to each PoP.
func (p *Problem) row(g int) []int32 {
	m := len(p.Capacity)
	if p.Rows != nil {
		g = int(p.Rows[g])
	}
	return p.RTT[g*m : (g+1)*m]
}

// cost is what is counted for group g at a PoP, in microseconds; less than 0 for a home
// that is nearer than it is worth.
func (p *Problem) cost(g, pop int) int64 {
	c := int64(p.row(g)[pop])
	if p.Stay != nil && int(p.Home[g]) == pop {
		c -= int64(p.Stay[g])
	}
	return c
}

// capacities are those that the demand fits in: larger by one factor if it is more.
func (p *Problem) capacities() []int64 {
	capacity, demand := sum(p.Capacity), sum(p.Demand)
	out := append([]int64(nil), p.Capacity...)
	if demand <= capacity {
		return out
	}
	for j, c := range out {
		// Rounded up, so that together it is enough; both factors are below 2^53.
		hi, lo := bits.Mul64(uint64(c), uint64(demand))
		lo, carry := bits.Add64(lo, uint64(capacity-1), 0)
		q, _ := bits.Div64(hi+carry, lo, uint64(capacity))
		out[j] = int64(q)
	}
	return out
}

// Assignment is an answer.
type Assignment struct {
	// PoP is that of each group.
	PoP []int16
	// Prices are microseconds that one unit of demand would gain if a PoP had one unit of
	// capacity more; nil: the algorithm has none. That of a PoP without capacity is -1.
	Prices []int64
	// Divided is how many groups the solution divided before they were made whole.
	Divided int
}

// Optimiser is one way to assign.
type Optimiser interface {
	// Assign solves a problem that Check finds nothing wrong with. It gives up when ctx
	// ends, with ctx's error.
	Assign(ctx context.Context, p *Problem) (Assignment, error)
}

// Algorithm is an Optimiser with its name.
type Algorithm struct {
	Name   string
	Reason string // when to take it, in a sentence
	Optimiser
}

// Algorithms are all, the one to take by default first.
func Algorithms() []Algorithm {
	return []Algorithm{
		{"price", "the least demand-weighted round-trip time within the capacities; exact but for the groups that it must not divide", Price{}},
		{"stable", "deferred acceptance with capacities: no group and PoP would both rather have each other; it needs no common unit of what is good", Stable{}},
		{"argmin", "the nearest PoP whatever its capacity: the baseline, and right where capacity never matters", Argmin{}},
	}
}

// Find gives the algorithm of a name.
func Find(name string) (Algorithm, error) {
	var names []string
	for _, a := range Algorithms() {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	return Algorithm{}, fmt.Errorf("algorithm %q is not known, expected one of %q", name, names)
}

// Loads is the demand that an assignment gives each PoP.
func (p *Problem) Loads(pop []int16) []int64 {
	load := make([]int64, len(p.Capacity))
	for g, j := range pop {
		load[j] += p.Demand[g]
	}
	return load
}

// Cost is the sum of demand × round-trip time of an assignment, in units of demand ×
// microseconds. What is counted less for homes is not in it.
func (p *Problem) Cost(pop []int16) float64 {
	var c total
	for g, j := range pop {
		c.add(p.Demand[g], int64(p.row(g)[j]))
	}
	return c.float()
}

// Bound is a cost that no assignment within the capacities is below, for any prices
// that are not negative (Lagrangian duality): Σ demand × min(RTT + price) - Σ price ×
// capacity. nil prices are those of 0: the bound without capacities. With the prices of
// the optimum it is the optimum of groups that may be divided.
func (p *Problem) Bound(prices []int64) float64 {
	price := make([]int64, len(p.Capacity))
	copy(price, prices)
	capacity := p.capacities()
	for j, c := range capacity {
		if c == 0 {
			price[j] = shut
		}
	}
	parts := make([]total, blocks)
	each(len(p.Demand), func(block, from, to int) {
		for g := from; g < to; g++ {
			if p.Demand[g] == 0 {
				continue
			}
			row, best := p.row(g), int64(math.MaxInt64)
			for j, c := range row {
				best = min(best, int64(c)+price[j])
			}
			parts[block].add(p.Demand[g], best)
		}
	})
	bound := total{}
	for _, part := range parts {
		bound.join(part)
	}
	rent := total{}
	for j, c := range capacity {
		if c > 0 {
			rent.add(c, price[j])
		}
	}
	return bound.float() - rent.float()
}

// shut is the price of a PoP without capacity: more than any path costs.
const shut = 1 << 40

// total is an exact sum of products that are not negative.
type total struct{ hi, lo uint64 }

func (t *total) add(a, b int64) {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	t.join(total{hi, lo})
}

func (t *total) join(o total) {
	var carry uint64
	t.lo, carry = bits.Add64(t.lo, o.lo, 0)
	t.hi, _ = bits.Add64(t.hi, o.hi, carry)
}

func (t total) float() float64 { return math.Ldexp(float64(t.hi), 64) + float64(t.lo) }

func sum(v []int64) (s int64) {
	for _, x := range v {
		s += x
	}
	return s
}

// blocks is in how many parts work on rows is divided: the same on every machine, as
// what is made of each part must not depend on how many work at once.
const blocks = 64

// each calls do for the parts of n rows, on all processors, and waits.
func each(n int, do func(block, from, to int)) {
	if n < 4096 { // not worth a goroutine
		for b := range blocks {
			do(b, n*b/blocks, n*(b+1)/blocks)
		}
		return
	}
	var wg sync.WaitGroup
	next := make(chan int, blocks)
	for b := range blocks {
		next <- b
	}
	close(next)
	for range min(runtime.GOMAXPROCS(0), blocks) {
		wg.Go(func() {
			for b := range next {
				do(b, n*b/blocks, n*(b+1)/blocks)
			}
		})
	}
	wg.Wait()
}
