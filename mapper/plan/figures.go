package plan

import (
	"cmp"
	"slices"

	"github.com/zonecast/zonecast/mapper/table"
)

// Figures say how good a map is. Times are in milliseconds, by demand: of half of the demand the
// round-trip time is at most P50.
type Figures struct {
	Demand         float64 // of all
	Mean, P50, P95 float64
	Load           []float64 // of each PoP
	// Overloaded is by how much all PoPs together are above their capacities.
	Overloaded float64
	// Bound is a mean that no assignment within the capacities less the headroom is below, groups divided
	// or not; Unbounded is that without capacities. Both are 0 for a map that was only measured.
	Bound, Unbounded float64
	// Gap is how far Mean is above Bound, in parts of it.
	Gap float64
}

// rounding is what sums of demand are off by, in parts of them.
const rounding = 1e-9

// Measure measures a map: at gives the PoP of prefix i.
func Measure(t *table.Table, at func(i int) int) Figures {
	f := Figures{Load: make([]float64, len(t.PoPs))}
	type part struct {
		rtt    int32
		demand float64
	}
	parts := make([]part, 0, len(t.Demand))
	sum := 0.0
	for i, d := range t.Demand {
		if d == 0 {
			continue
		}
		j := at(i)
		rtt := t.Row(i)[j]
		f.Load[j] += d
		f.Demand += d
		sum += d * float64(rtt)
		parts = append(parts, part{rtt, d})
	}
	for j, p := range t.PoPs {
		if p.Drained {
			p.Capacity = 0
		}
		if over := f.Load[j] - p.Capacity; over > rounding*p.Capacity {
			f.Overloaded += over
		}
	}
	if f.Demand == 0 {
		return f
	}
	f.Mean = sum / f.Demand / 1000
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(a.rtt, b.rtt) })
	quantile := func(q float64) float64 {
		passed := 0.0
		for _, p := range parts {
			if passed += p.demand; passed >= q*f.Demand*(1-1e-12) {
				return float64(p.rtt) / 1000
			}
		}
		return float64(parts[len(parts)-1].rtt) / 1000
	}
	f.P50, f.P95 = quantile(0.50), quantile(0.95)
	return f
}

// bound fills in what is possible.
func (f *Figures) bound(w *work, prices []int64) {
	if f.Demand == 0 {
		return
	}
	p := w.problem
	p.Capacity = w.limit
	total := 0.0
	for _, d := range p.Demand {
		total += float64(d)
	}
	f.Unbounded = p.Bound(nil) / total / 1000
	f.Bound = max(p.Bound(prices)/total/1000, f.Unbounded)
	if f.Bound > 0 {
		f.Gap = f.Mean/f.Bound - 1
	}
}
