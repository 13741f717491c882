package rtt

import (
	"cmp"
	"slices"
)

// Recent makes one table of several of consecutive times, such that a change is seen soon and
// thin data is still used: a cell is merged from the newest table that has it backwards, only until
// want measurements are there. Demand is that of all of them. Tables are told apart by their
// End; those with an equal one, as of several servers, count as one. want zero takes all. What finds no
// room within the limit is what is older, and rows without a measurement before all others; Evicted
// counts it.
func Recent(tables []*Table, want uint64, limit Limit) (*Table, error) {
	order := slices.Clone(tables)
	slices.SortStableFunc(order, func(a, b *Table) int { return cmp.Compare(b.End.Unix(), a.End.Unix()) })
	out := New(limit)
	for i := 0; i < len(order); {
		j := i + 1
		for j < len(order) && order[j].End.Equal(order[i].End) {
			j++
		}
		if err := out.fill(order[i:j], want); err != nil {
			return nil, err
		}
		i = j
	}
	return out, nil
}

// fill merges what is missing for want.
func (t *Table) fill(older []*Table, want uint64) error {
	type place struct {
		key Key
		pop uint16
	}
	full := map[place]bool{} // as it was before this
	for _, r := range t.rows {
		for _, c := range r.cells {
			if want > 0 && c.times.Count() >= want {
				full[place{r.key, c.pop}] = true
			}
		}
	}
	for _, o := range older {
		numbers := make([]uint16, len(o.pops))
		for i, name := range o.pops {
			var err error
			if numbers[i], err = t.pop(name); err != nil {
				return err
			}
		}
		for from := range o.touched() {
			if _, there := t.index[from.key]; !there && t.full() && (len(from.cells) == 0 || t.heard.oldest < 0) {
				t.Evicted++
				continue
			}
			to := t.touch(from.key)
			to.demand, to.queries = sum(to.demand, from.demand), sum(to.queries, from.queries)
			for _, c := range from.cells {
				if n := numbers[c.pop]; !full[place{from.key, n}] {
					t.mergeCell(to, n, c)
				}
			}
			t.makeRoom()
		}
		if !o.Empty() {
			t.cover(o.Begin, o.End)
		}
		t.Evicted += o.Evicted
	}
	return nil
}
