package plan

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/zonecast/zonecast/mapper/assign"
)

// maxPairs is how many first and second choices there may be together: each is a location, and
// a map has at most 2^14.
const maxPairs = 1 << 13

// orders chooses who takes over.
func (w *work) orders(ctx context.Context) error {
	n, m := len(w.at), len(w.Table.PoPs)
	w.Orders = make([]Order, n)
	members := make([][]int32, m)
	for i, j := range w.at {
		w.Orders[i] = Order{j, None, None}
		members[j] = append(members[j], int32(i))
	}
	load := w.problem.Loads(w.at)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for lost, rows := range members {
		if len(rows) > 0 {
			g.Go(func() error { return w.without(ctx, lost, rows, load) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	w.pairs()
	w.thirds()
	return nil
}

// without assigns who is at a PoP to the others. It writes the orders of these alone, so that
// several PoPs can be looked at at once.
func (w *work) without(ctx context.Context, lost int, rows []int32, load []int64) error {
	p := assign.Problem{RTT: w.problem.RTT, Rows: rows, Demand: make([]int64, len(rows)), Capacity: make([]int64, len(load))}
	room, open := int64(0), 0
	for j, c := range w.problem.Capacity {
		if j == lost || c == 0 {
			continue
		}
		open++
		p.Capacity[j] = max(c-load[j], 0)
		room += p.Capacity[j]
	}
	switch {
	case open == 0:
		return nil
	case room == 0: // all are full: in proportion to what they can
		copy(p.Capacity, w.problem.Capacity)
		p.Capacity[lost] = 0
	}
	if w.Home != nil {
		p.Home, p.Stay = make([]int16, len(rows)), make([]int32, len(rows))
	}
	for k, i := range rows {
		p.Demand[k] = w.problem.Demand[i]
		if w.Home != nil {
			p.Home[k] = None
			if s := w.second[i]; s != None && int(s) != lost && p.Capacity[s] > 0 {
				p.Home[k], p.Stay[k] = s, w.threshold(int(i), int(s))
			}
		}
	}
	algorithm := assign.Optimiser(assign.Price{})
	if w.set.Algorithm != "price" {
		a, err := assign.Find(w.set.Algorithm)
		if err != nil {
			return err
		}
		algorithm = a
	}
	a, err := algorithm.Assign(ctx, &p)
	if err != nil {
		return fmt.Errorf("compute second choices of %s: %w", w.Table.PoPs[lost].Name, err)
	}
	for k, i := range rows {
		w.Orders[i][1] = a.PoP[k]
	}
	return nil
}

// pairs makes the pairs of first and second choice few enough to be locations.
func (w *work) pairs() {
	m := len(w.Table.PoPs)
	demand, there := make([]float64, m*m), make([]bool, m*m)
	count := 0
	for i, o := range w.Orders {
		if o[1] == None {
			continue
		}
		pair := int(o[0])*m + int(o[1])
		demand[pair] += w.Table.Demand[i]
		if !there[pair] {
			there[pair], count = true, count+1
		}
	}
	if count <= maxPairs {
		return
	}
	// The rarest give way to the most frequent of the same first choice.
	most := make([]int16, m)
	var all []int
	for j := range m {
		best := None
		for k := range m {
			if pair := j*m + k; there[pair] {
				all = append(all, pair)
				if best == None || demand[pair] > demand[j*m+best] {
					best = k
				}
			}
		}
		most[j] = int16(best)
	}
	slices.SortFunc(all, func(a, b int) int { return cmp.Or(cmp.Compare(demand[b], demand[a]), cmp.Compare(a, b)) })
	for _, pair := range all[maxPairs-m:] {
		there[pair] = false
	}
	for i, o := range w.Orders {
		if o[1] != None && !there[int(o[0])*m+int(o[1])] {
			w.Orders[i][1] = most[o[0]]
		}
	}
}

// thirds gives each pair of first and second choice the PoP that is nearest to those who have it.
func (w *work) thirds() {
	m := len(w.Table.PoPs)
	cost := map[[2]int16][]float64{}
	for i, o := range w.Orders {
		pair := [2]int16{o[0], o[1]}
		c := cost[pair]
		if c == nil {
			c = make([]float64, m)
			cost[pair] = c
		}
		weight := w.Table.Demand[i] + 1e-9 // who has no demand counts when nobody has
		for j, v := range w.Table.Row(i) {
			c[j] += weight * float64(v)
		}
	}
	third := map[[2]int16]int16{}
	for pair, c := range cost {
		best := None
		for j, v := range c {
			if w.problem.Capacity[j] > 0 && int16(j) != pair[0] && int16(j) != pair[1] && (best == None || v < c[best]) {
				best = j
			}
		}
		third[pair] = int16(best)
	}
	for i, o := range w.Orders {
		if o[1] != None {
			w.Orders[i][2] = third[[2]int16{o[0], o[1]}]
		}
	}
}

// losses tells what happens without each PoP.
func (w *work) losses() {
	m := len(w.Table.PoPs)
	load := w.Figures.Load
	goes, longer := make([]float64, m*m), make([]float64, m) // demand from one PoP to another, and demand × ms
	for i, o := range w.Orders {
		if o[1] == None {
			continue
		}
		row, d := w.Table.Row(i), w.Table.Demand[i]
		goes[int(o[0])*m+int(o[1])] += d
		longer[o[0]] += d * float64(row[o[1]]-row[o[0]]) / 1000
	}
	for lost, p := range w.Table.PoPs {
		if !p.Open() {
			continue
		}
		l := Loss{PoP: lost, Demand: load[lost], At: None, Mean: w.Figures.Mean}
		for j, q := range w.Table.PoPs {
			if j == lost || !q.Open() {
				continue
			}
			l.Room += max(q.Capacity-load[j], 0)
			if share := (load[j] + goes[lost*m+j]) / q.Capacity; l.At == None || share > l.Worst {
				l.Worst, l.At = share, j
			}
		}
		if w.Figures.Demand > 0 {
			l.Mean += longer[lost] / w.Figures.Demand
		}
		w.Losses = append(w.Losses, l)
	}
}

// byDefault chooses where strangers go: where all together are nearest.
func (w *work) byDefault() {
	m := len(w.Table.PoPs)
	cost := make([]float64, m)
	for i, d := range w.Table.Demand {
		for j, v := range w.Table.Row(i) {
			cost[j] += (d + 1e-9) * float64(v)
		}
	}
	w.Default = Order{None, None, None}
	for k := range w.Default {
		best, least := None, math.Inf(1)
		for j, c := range cost {
			if w.problem.Capacity[j] > 0 && c < least && !slices.Contains(w.Default[:k], int16(j)) {
				best, least = j, c
			}
		}
		w.Default[k] = int16(best)
	}
}
