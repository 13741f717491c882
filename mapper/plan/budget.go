package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/mapper/table"
	"github.com/zonecast/zonecast/record"
)

// EntryLoss is what it costs that a map has fewer.
type EntryLoss struct {
	Removed int
	// Moved is the part of the demand that has another first PoP for it, Mean by how many
	// milliseconds the demand-weighted mean grows.
	Moved, Mean float64
}

// String is the loss for people.
func (l EntryLoss) String() string {
	return fmt.Sprintf("%d prefixes are left out for the bound on entries: %.3f %% of the demand is elsewhere for it, and the mean is %.3f ms longer", l.Removed, 100*l.Moved, l.Mean)
}

// Fewer takes entries away until there are most, in the order of an aggregated map of the plan's
// prefixes for which of is true: those whose clients lose least by being where clients of the entry around
// them are. Entries for everybody stay. Loads change by what moves; nothing is moved back.
func (p *Plan) Fewer(entries []geo.Entry, most int, of func(i int) bool) ([]geo.Entry, EntryLoss) {
	if len(entries) <= most {
		return entries, EntryLoss{}
	}
	b := newBudget(p, entries, of)
	for left := len(entries); left > most; {
		removed := b.pass(left - most)
		if removed == 0 {
			break
		}
		left -= removed
	}
	var kept []geo.Entry
	for e := range entries {
		if !b.gone[e] {
			kept = append(kept, entries[e])
		}
	}
	return kept, b.loss(len(entries) - len(kept))
}

// budget is a map that loses entries.
type budget struct {
	*Plan
	entries []geo.Entry
	around  []int   // the entry around each, -1: none
	first   []int16 // PoP of each entry, None of one that the table does not have
	gone    []bool
	members [][]int32 // prefixes of each entry
}

func newBudget(p *Plan, entries []geo.Entry, of func(i int) bool) *budget {
	b := &budget{Plan: p, entries: entries, around: make([]int, len(entries)), first: make([]int16, len(entries)), gone: make([]bool, len(entries)), members: make([][]int32, len(entries))}
	number := map[string]int16{}
	for j, pop := range p.Table.PoPs {
		number[pop.Name] = int16(j)
	}
	firsts := map[record.Location]int16{}
	var open []int
	for e, entry := range entries {
		for len(open) > 0 && !holds(entries[open[len(open)-1]].Prefix, entry.Prefix) {
			open = open[:len(open)-1]
		}
		if b.around[e] = -1; len(open) > 0 {
			b.around[e] = open[len(open)-1]
		}
		open = append(open, e)
		j, ok := firsts[entry.Location]
		if !ok {
			name, _, _ := strings.Cut(string(entry.Location), "/")
			if j, ok = number[name]; !ok {
				j = None
			}
			firsts[entry.Location] = j
		}
		b.first[e] = j
	}
	var rows []int32
	var prefixes []netip.Prefix
	for i, prefix := range p.Table.Prefixes {
		if of(i) {
			rows, prefixes = append(rows, int32(i)), append(prefixes, prefix)
		}
	}
	for k, prefix := range table.Rests(prefixes) {
		if p.Table.Demand[rows[k]] == 0 {
			continue
		}
		e, found := slices.BinarySearchFunc(entries, prefix, func(x geo.Entry, q netip.Prefix) int {
			return cmp.Or(x.Prefix.Addr().Compare(q.Addr()), cmp.Compare(x.Prefix.Bits(), q.Bits()))
		})
		if !found {
			for e--; e >= 0 && !holds(entries[e].Prefix, prefix); {
				e = b.around[e]
			}
		}
		if e >= 0 {
			b.members[e] = append(b.members[e], rows[k])
		}
	}
	return b
}

func holds(p, q netip.Prefix) bool { return p.Bits() <= q.Bits() && p.Contains(q.Addr()) }

// pass takes away up to most entries, none of which is around another one that it takes.
func (b *budget) pass(most int) int {
	type candidate struct {
		loss float64
		e    int
	}
	var all []candidate
	for e, up := range b.around {
		if b.gone[e] || up < 0 || b.entries[e].Prefix.Bits() == 0 {
			continue
		}
		all = append(all, candidate{b.cost(e, up), e})
	}
	slices.SortFunc(all, func(x, y candidate) int { return cmp.Or(cmp.Compare(x.loss, y.loss), cmp.Compare(x.e, y.e)) })
	busy := map[int]bool{} // entries around those that went: what they would cost is another now
	removed := 0
	// Half at a time, so that what becomes cheaper or dearer meanwhile is seen.
	for _, c := range all[:min(len(all), max(most/2, min(most, 64)))] {
		if up := b.around[c.e]; !busy[c.e] && !b.gone[up] {
			b.gone[c.e], busy[up] = true, true
			b.members[up] = append(b.members[up], b.members[c.e]...)
			b.members[c.e] = nil
			removed++
		}
	}
	for e, up := range b.around {
		for up >= 0 && b.gone[up] {
			up = b.around[up]
		}
		b.around[e] = up
	}
	return removed
}

// cost is what the members of entry e lose at the PoP of the one around it, with the prices of
// room: or those would be the cheapest whom a full PoP has turned away.
func (b *budget) cost(e, up int) (loss float64) {
	if b.first[e] == None || b.first[up] == None {
		return 0
	}
	for _, i := range b.members[e] {
		row := b.Table.Row(int(i))
		loss += b.Table.Demand[i] * (float64(row[b.first[up]]-row[b.first[e]]) + b.price(b.first[up]) - b.price(b.first[e]))
	}
	return loss
}

func (b *budget) price(j int16) float64 {
	if b.Prices == nil {
		return 0
	}
	return float64(max(b.Prices[j], 0))
}

// loss sums up.
func (b *budget) loss(removed int) EntryLoss {
	l := EntryLoss{Removed: removed}
	if b.Figures.Demand == 0 {
		return l
	}
	for e, members := range b.members {
		if b.first[e] == None {
			continue
		}
		for _, i := range members {
			was := b.Orders[i][0]
			if was != b.first[e] {
				row, d := b.Table.Row(int(i)), b.Table.Demand[i]
				l.Moved += d / b.Figures.Demand
				l.Mean += d * float64(row[b.first[e]]-row[was]) / 1000 / b.Figures.Demand
			}
		}
	}
	return l
}
