package assign

import (
	"cmp"
	"context"
	"slices"
)

// Stable is deferred acceptance: each group asks the PoPs from the nearest on, and a PoP
// keeps those that would lose most by having to go on to the next of their lists. Lists
// have the nearest listed PoPs only; who is refused by all goes where there is most room.
type Stable struct{}

// listed is how long a group's list of PoPs is. Longer costs 2 octets a group and finds
// room farther away; past a dozen PoPs hardly anybody is well served.
const listed = 16

// ask is a group that a PoP has accepted for now.
type ask struct {
	loss  int32 // microseconds to the next PoP of its list
	group int32
}

// Assign implements Optimiser.
func (Stable) Assign(ctx context.Context, p *Problem) (Assignment, error) {
	n, m := len(p.Demand), len(p.Capacity)
	capacity := p.capacities()
	open := 0
	for _, c := range capacity {
		if c > 0 {
			open++
		}
	}
	length := min(listed, open)
	lists := make([]int16, n*length)
	each(n, func(_, from, to int) {
		order := make([]int16, 0, m)
		for g := from; g < to; g++ {
			order = order[:0]
			for j := range capacity {
				if capacity[j] > 0 {
					order = append(order, int16(j))
				}
			}
			slices.SortFunc(order, func(a, b int16) int {
				return cmp.Or(cmp.Compare(p.cost(g, int(a)), p.cost(g, int(b))), cmp.Compare(a, b))
			})
			copy(lists[g*length:], order[:length])
		}
	})
	// loss is what group g loses when the k-th of its list refuses it.
	loss := func(g, k int) int32 {
		if k+1 == length {
			return MaxRTT
		}
		l := lists[g*length:]
		return int32(min(p.cost(g, int(l[k+1]))-p.cost(g, int(l[k])), MaxRTT))
	}
	next := make([]uint8, n)
	accepted := make([]heap[ask], m)
	for j := range accepted {
		accepted[j].less = func(a, b ask) bool { // the one to refuse first: who loses least
			return a.loss < b.loss || a.loss == b.loss && a.group > b.group
		}
	}
	load := make([]int64, m)
	pop := make([]int16, n)
	free := make([]int32, 0, n)
	for g := n - 1; g >= 0; g-- {
		free = append(free, int32(g))
	}
	var refused []int32
	for steps := 0; len(free) > 0; steps++ {
		if steps%4096 == 0 && ctx.Err() != nil {
			return Assignment{}, ctx.Err()
		}
		g := int(free[len(free)-1])
		free = free[:len(free)-1]
		k := int(next[g])
		if k == length {
			refused = append(refused, int32(g))
			continue
		}
		next[g]++
		j := lists[g*length+k]
		if p.Demand[g] > capacity[j] { // never fits: nobody is to make room for it
			free = append(free, int32(g))
			continue
		}
		pop[g] = j
		accepted[j].push(ask{loss(g, k), int32(g)})
		load[j] += p.Demand[g]
		for load[j] > capacity[j] {
			out := accepted[j].pop()
			load[j] -= p.Demand[out.group]
			free = append(free, out.group)
		}
	}
	slices.SortFunc(refused, func(a, b int32) int { return cmp.Or(cmp.Compare(p.Demand[b], p.Demand[a]), cmp.Compare(a, b)) })
	for _, g := range refused { // more than fits on the lists: where the share of the load is least
		best := -1
		for j := range capacity {
			if capacity[j] == 0 {
				continue
			}
			if best < 0 || fuller(load[best]+p.Demand[g], capacity[best], load[j]+p.Demand[g], capacity[j]) {
				best = j
			}
		}
		pop[g] = int16(best)
		load[best] += p.Demand[g]
	}
	return Assignment{PoP: pop}, nil
}

// fuller tells whether load a of capacity ca is more than load b of capacity cb, in proportion.
func fuller(a, ca, b, cb int64) bool {
	var x, y total
	x.add(a, cb)
	y.add(b, ca)
	return x.hi > y.hi || x.hi == y.hi && x.lo > y.lo
}
