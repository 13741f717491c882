package assign

import (
	"cmp"
	"context"
	"math"
	"slices"
)

const (
	// large is the part of the demand from which on a divided group is worth another solution.
	large = 1e-5
	// rounds is how many there are at most: each divides other groups, mostly smaller ones.
	rounds = 6
)

// whole gives each divided group one PoP. Large ones are put where their largest part is,
// and the rest is solved again around them; then groups are moved out of PoPs that have
// become too full, and then whatever gains by a move that fits.
func (f *flow) whole(ctx context.Context) ([]int16, error) {
	r, price := repair{p: f.p, capacity: f.capacity}, f.price
	least := int64(large * float64(sum(f.p.Demand)))
	fixed := map[int32]int16{}
	for range rounds {
		if !f.settle() {
			break
		}
		rest := *f.p
		rest.Demand, rest.Capacity = slices.Clone(f.p.Demand), slices.Clone(f.capacity)
		more := false
		for g := range f.divided {
			if f.p.Demand[g] > least {
				fixed[g], more = f.at[g], true
				rest.Demand[g] = 0
				rest.Capacity[f.at[g]] = max(rest.Capacity[f.at[g]]-f.p.Demand[g], 0)
			}
		}
		if !more || sum(rest.Capacity) == 0 {
			break
		}
		f = newFlow(&rest, f.price)
		if err := f.run(ctx); err != nil {
			return nil, err
		}
	}
	f.settle()
	for g, j := range fixed {
		f.at[g] = j
	}
	r.pop, r.load = f.at, r.p.Loads(f.at)
	r.idle(price) // of the optimum: the rest has PoPs that are full
	r.fit()
	r.better()
	r.swap()
	return r.pop, ctx.Err()
}

// settle puts divided groups where their largest part is; false: there are none.
func (f *flow) settle() bool {
	for g, parts := range f.divided {
		largest := parts[0]
		for _, part := range parts[1:] {
			if part.size > largest.size || part.size == largest.size && part.pop < largest.pop {
				largest = part
			}
		}
		f.at[g] = largest.pop
	}
	return len(f.divided) > 0
}

// repair changes an assignment by whole groups.
type repair struct {
	p        *Problem
	capacity []int64
	pop      []int16
	load     []int64
}

func (r *repair) over(j int) int64 { return r.load[j] - r.capacity[j] }

func (r *repair) to(g, k int) {
	d := r.p.Demand[g]
	r.load[r.pop[g]] -= d
	r.load[k] += d
	r.pop[g] = int16(k)
}

// gain is what group g gains at k over j, times its demand: as a float, it may be above 64 bits.
func (r *repair) gain(g, j, k int) float64 {
	return float64(r.p.Demand[g]) * float64(r.p.cost(g, j)-r.p.cost(g, k))
}

// idle puts groups without demand where those with demand like theirs are.
func (r *repair) idle(price []int64) {
	if !slices.Contains(r.p.Demand, 0) {
		return
	}
	best := make([]int16, len(r.pop))
	nearest(r.p, price, best)
	for g, d := range r.p.Demand {
		if d == 0 {
			r.pop[g] = best[g]
		}
	}
}

// candidates is how many moves are looked up at a time.
const candidates = 256

// fit moves groups from PoPs above their capacity to PoPs with room, for the least cost.
func (r *repair) fit() {
	for {
		moved := false
		for j := range r.capacity {
			for r.over(j) > 0 && r.relieve(j) {
				moved = true
			}
		}
		if !moved {
			break
		}
	}
	for j := range r.capacity {
		for r.over(j) > 0 && r.exchange(j) {
		}
	}
}

// relieve moves some groups from j to where there is room; false: none fits.
func (r *repair) relieve(j int) bool {
	type option struct {
		score float64
		group int
		to    int
	}
	var options []option
	over := r.over(j)
	for g, at := range r.pop {
		d := r.p.Demand[g]
		if int(at) != j || d == 0 {
			continue
		}
		best, to := int64(math.MaxInt64), -1
		for k, c := range r.capacity {
			if k != j && c > 0 && d <= -r.over(k) {
				if v := r.p.cost(g, k); v < best {
					best, to = v, k
				}
			}
		}
		if to >= 0 {
			// What it costs, for each unit of what is too much.
			loss := float64(best-r.p.cost(g, j)) * float64(d) / float64(min(d, over))
			options = append(options, option{loss, g, to})
		}
	}
	slices.SortFunc(options, func(a, b option) int {
		return cmp.Or(cmp.Compare(a.score, b.score), cmp.Compare(r.p.Demand[a.group], r.p.Demand[b.group]), cmp.Compare(a.group, b.group))
	})
	moved := false
	for _, o := range options[:min(len(options), candidates)] {
		over := r.over(j)
		if over <= 0 {
			break
		}
		if d := r.p.Demand[o.group]; moved && d > over || d > -r.over(o.to) {
			continue // the score was for another amount: looked up again
		}
		r.to(o.group, o.to)
		moved = true
	}
	return moved
}

const (
	// small is up to how many groups pairs of them are looked at, to fit.
	small = 4096
	// few is up to how many pairs are looked at to gain: with more groups there is nothing in it.
	few = 512
)

// exchange swaps a group at j for a smaller one elsewhere, or moves one, so that what is
// above all capacities becomes less; false: no pair does.
func (r *repair) exchange(j int) bool {
	if len(r.pop) > small {
		return false
	}
	above := func(load, capacity int64) int64 { return max(load-capacity, 0) }
	bestGain, bestLoss, g1, g2, to := int64(0), 0.0, -1, -1, -1
	consider := func(a, b, k int, less int64) { // less: by how much load goes from j to k
		gain := above(r.load[j], r.capacity[j]) + above(r.load[k], r.capacity[k]) - above(r.load[j]-less, r.capacity[j]) - above(r.load[k]+less, r.capacity[k])
		loss := r.gain(a, k, j)
		if b >= 0 {
			loss += r.gain(b, j, k)
		}
		if gain > bestGain || gain == bestGain && gain > 0 && loss < bestLoss {
			bestGain, bestLoss, g1, g2, to = gain, loss, a, b, k
		}
	}
	for a, at := range r.pop {
		if int(at) != j || r.p.Demand[a] == 0 {
			continue
		}
		for k, c := range r.capacity {
			if k != j && c > 0 {
				consider(a, -1, k, r.p.Demand[a])
			}
		}
		for b, other := range r.pop {
			if int(other) != j && r.p.Demand[b] < r.p.Demand[a] {
				consider(a, b, int(other), r.p.Demand[a]-r.p.Demand[b])
			}
		}
	}
	if g1 < 0 {
		return false
	}
	r.to(g1, to)
	if g2 >= 0 {
		r.to(g2, j)
	}
	return true
}

// better moves groups that gain to where they fit.
func (r *repair) better() {
	for range 3 { // the second pass finds little, the third next to nothing
		moved := false
		for g, at := range r.pop {
			best, to, d := r.p.cost(g, int(at)), -1, r.p.Demand[g]
			if d == 0 {
				continue
			}
			for k, c := range r.p.row(g) {
				if int64(c)-MaxRTT < best && k != int(at) && r.capacity[k] > 0 && d <= -r.over(k) {
					if v := r.p.cost(g, k); v < best {
						best, to = v, k
					}
				}
			}
			if to >= 0 {
				r.to(g, to)
				moved = true
			}
		}
		if !moved {
			return
		}
	}
}

// swap exchanges pairs of groups that both fit and gain together.
func (r *repair) swap() {
	if len(r.pop) > few {
		return
	}
	for range 8 {
		swapped := false
		for a := range r.pop {
			for b := range a {
				j, k := int(r.pop[a]), int(r.pop[b])
				if j == k {
					continue
				}
				more := r.p.Demand[b] - r.p.Demand[a] // for j
				if more > 0 && more > -r.over(j) || more < 0 && -more > -r.over(k) {
					continue
				}
				if r.gain(a, j, k)+r.gain(b, k, j) > 0 {
					r.to(a, k)
					r.to(b, j)
					swapped = true
				}
			}
		}
		r.better()
		if !swapped {
			return
		}
	}
}
