package assign

import (
	"context"
	"math"
)

// Argmin takes the nearest PoP that has capacity, however much; a group stays at home
// unless another one is nearer by more than its Stay.
type Argmin struct{}

// Assign implements Optimiser.
func (Argmin) Assign(ctx context.Context, p *Problem) (Assignment, error) {
	pop := make([]int16, len(p.Demand))
	nearest(p, prices(p.Capacity), pop)
	return Assignment{PoP: pop}, ctx.Err()
}

// prices are 0, and shut where there is no capacity.
func prices(capacity []int64) []int64 {
	price := make([]int64, len(capacity))
	for j, c := range capacity {
		if c == 0 {
			price[j] = shut
		}
	}
	return price
}

// nearest gives each group the PoP with the least cost and price: its home when that is
// one of several, else the first.
func nearest(p *Problem, price []int64, pop []int16) {
	each(len(p.Demand), func(_, from, to int) {
		for g := from; g < to; g++ {
			best, at := int64(math.MaxInt64), 0
			for j, c := range p.row(g) {
				if v := int64(c) + price[j]; v < best {
					best, at = v, j
				}
			}
			if p.Home != nil && p.Home[g] >= 0 {
				if h := int(p.Home[g]); p.cost(g, h)+price[h] <= best {
					at = h
				}
			}
			pop[g] = int16(at)
		}
	})
}
