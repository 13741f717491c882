package measured

import (
	"cmp"
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
	// Rows is how many prefixes there are at most: those that were measured, and measured last, come first.
	// Zero is table.MaxPrefixes.
	Rows int
	// Queries takes the sampled queries as the demand, and not page loads.
	Queries bool
}

// Measured is a table and where it comes from.
type Measured struct {
	*table.Table
	// Keys are those of the prefixes of the table: a prefix may be there as one of clients and as
	// one of resolvers.
	Keys []rtt.Key
	// Thin counts times that too few measured, Unknown those of PoPs that are not in the list, by name,
	// and Believed the others, by the PoPs of the table.
	Thin     int
	Unknown  map[string]int
	Believed []int
	// Evicted counts rows for which there was no room.
	Evicted uint64
	// Newest is when the last measurement was.
	Newest time.Time
}

// New makes a table of tables of different times.
func New(tables []*rtt.Table, pops []table.PoP, set Settings) (*Measured, error) {
	if err := table.CheckPoPs(pops); err != nil {
		return nil, err
	}
	t, err := rtt.Recent(tables, uint64(set.Enough), rtt.Limit{Rows: min(cmp.Or(set.Rows, table.MaxPrefixes), table.MaxPrefixes, table.MaxCells/len(pops))})
	if err != nil {
		return nil, err
	}
	m := &Measured{Table: &table.Table{PoPs: pops}, Newest: t.End, Unknown: map[string]int{}, Believed: make([]int, len(pops)), Evicted: t.Evicted}
	number := make(map[string]int, len(pops))
	for j, p := range pops {
		number[p.Name] = j
	}
	seconds := max(span(tables, set.Queries).Seconds(), 1)
	for r := range t.All() {
		counted := r.Demand
		if set.Queries {
			counted = r.Queries
		}
		if counted == 0 && len(r.Cells) == 0 {
			continue // says nothing
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
				m.Unknown[c.PoP]++
			case c.Times.Count() < uint64(max(set.Measurements, 1)) || c.Clients.Count() < max(set.Clients, 1):
				m.Thin++
			default:
				m.Believed[j]++
				row[j] = int32(min(c.Times.Quantile(0.5).Microseconds(), assign.MaxRTT))
			}
		}
	}
	return m, nil
}

// longest is the time that one table of a beacon is of, at most.
const longest = 24 * time.Hour

// span is the time in which demand was counted: that of the tables that have some. What was imported
// may be of a year and has none; and a table in which a clock was set from 1970 to now is of no
// time that is known.
func span(tables []*rtt.Table, queries bool) time.Duration {
	var begin, end time.Time
	for _, t := range tables {
		loaded, sampled := t.Wanted()
		if queries {
			loaded = sampled
		}
		if loaded == 0 || t.End.Sub(t.Begin) > longest {
			continue
		}
		if begin.IsZero() || t.Begin.Before(begin) {
			begin = t.Begin
		}
		if t.End.After(end) {
			end = t.End
		}
	}
	if begin.IsZero() {
		return longest
	}
	return end.Sub(begin)
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

// OfClients is the table without the rows of resolvers, whose prefixes clients may have as well.
func (m *Measured) OfClients() *table.Table {
	t := &table.Table{PoPs: m.PoPs}
	for i, k := range m.Keys {
		if k.Kind == rtt.Client {
			t.Prefixes, t.Demand, t.RTT = append(t.Prefixes, k.Prefix), append(t.Demand, m.Demand[i]), append(t.RTT, m.Row(i)...)
		}
	}
	return t
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
