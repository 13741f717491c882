package measured

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/zonecast/zonecast/mapper/assign"
	"github.com/zonecast/zonecast/mapper/table"
	"github.com/zonecast/zonecast/rtt"
)

// Settings say what is believed.
type Settings struct {
	// Measurements and Clients are how many a time must come from. Zero is one.
	Measurements, Clients int
	// Enough is from how many measurements on older ones are not looked at. Zero looks at all.
	Enough int
	// Demand is how many units of capacity one measured page load a second stands for: with one
	// page in a thousand measured, and capacity in pages a second, 1000.
	Demand float64
	// Queries takes the sampled queries as the demand, and not page loads.
	Queries bool
}

// Measured is a table and where it comes from.
type Measured struct {
	*table.Table
	// Keys are those of the prefixes of the table: a prefix may be there as one of clients and as
	// one of resolvers.
	Keys []rtt.Key
	// Thin counts times that too few measured; Unknown those of PoPs that are not in the list.
	Thin, Unknown int
	// Newest is when the last measurement was.
	Newest time.Time
}

// New makes a table of tables of different times.
func New(tables []*rtt.Table, pops []table.PoP, set Settings) (*Measured, error) {
	if err := table.CheckPoPs(pops); err != nil {
		return nil, err
	}
	t, err := rtt.Recent(tables, uint64(set.Enough))
	if err != nil {
		return nil, err
	}
	m := &Measured{Table: &table.Table{PoPs: pops}, Newest: t.End}
	if t.Len() > table.MaxPrefixes || t.Len()*len(pops) > table.MaxCells {
		return nil, fmt.Errorf("%d prefixes were measured to %d PoPs, expected at most %d prefixes, and %d of both multiplied", t.Len(), len(pops), table.MaxPrefixes, table.MaxCells)
	}
	number := make(map[string]int, len(pops))
	for j, p := range pops {
		number[p.Name] = j
	}
	seconds := max(t.End.Sub(t.Begin).Seconds(), 1)
	for r := range t.All() {
		counted := r.Demand
		if set.Queries {
			counted = r.Queries
		}
		m.Keys = append(m.Keys, r.Key)
		m.Prefixes = append(m.Prefixes, r.Prefix)
		m.Demand = append(m.Demand, min(float64(counted)/seconds*set.Demand, table.MaxAmount))
		m.RTT = append(m.RTT, slices.Repeat([]int32{table.Missing}, len(pops))...)
		row := m.Row(len(m.Prefixes) - 1)
		for _, c := range r.Cells {
			j, ok := number[c.PoP]
			switch {
			case !ok:
				m.Unknown++
			case c.Times.Count() < uint64(max(set.Measurements, 1)) || c.Clients.Count() < max(set.Clients, 1):
				m.Thin++
			default:
				row[j] = int32(min(c.Times.Quantile(0.5).Microseconds(), assign.MaxRTT))
			}
		}
	}
	return m, nil
}

// Replace takes the demand from another table, by prefix, in place of what was counted; what
// it has of other prefixes is added as clients.
func (m *Measured) Replace(demand *table.Table) {
	at := make(map[rtt.Key]int, len(m.Keys))
	for i, k := range m.Keys {
		m.Demand[i] = 0
		at[k] = i
	}
	for i, p := range demand.Prefixes {
		k := rtt.Key{Kind: rtt.Client, Prefix: p}
		row, ok := at[k]
		if !ok {
			row = len(m.Keys)
			m.Keys, m.Prefixes, m.Demand = append(m.Keys, k), append(m.Prefixes, p), append(m.Demand, 0)
			m.RTT = append(m.RTT, slices.Repeat([]int32{table.Missing}, len(m.PoPs))...)
		}
		m.Demand[row] = demand.Demand[i]
	}
	m.sort()
}

// sort puts rows in the order of their keys.
func (m *Measured) sort() {
	order := make([]int, len(m.Keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := m.Keys[a], m.Keys[b]
		return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.Prefix.Addr().BitLen(), y.Prefix.Addr().BitLen()), x.Prefix.Addr().Compare(y.Prefix.Addr()), cmp.Compare(x.Prefix.Bits(), y.Prefix.Bits()))
	})
	was := *m.Table
	keys := m.Keys
	m.Keys = nil
	m.Table = &table.Table{PoPs: was.PoPs}
	for _, i := range order {
		m.Keys = append(m.Keys, keys[i])
		m.Prefixes, m.Demand, m.RTT = append(m.Prefixes, was.Prefixes[i]), append(m.Demand, was.Demand[i]), append(m.RTT, was.Row(i)...)
	}
}
