package plan_test

import (
	"net/netip"
	"testing"

	"github.com/zonecast/zonecast/geo/ortc"
	"github.com/zonecast/zonecast/mapper/plan"
	"github.com/zonecast/zonecast/mapper/table"
)

// A map of fewer entries costs what it says, and less than by taking any away.
func TestFewer(t *testing.T) {
	tab := world(5000, 5, 0.7, 9)
	p := compute(t, tab, nil, plan.DefaultSettings())
	entries, err := ortc.Aggregate(p.Map("users").Entries)
	if err != nil {
		t.Fatal(err)
	}
	before := 0.0
	for _, most := range []int{len(entries) + 1, len(entries) * 9 / 10, len(entries) / 2, len(entries) / 10, 2} {
		got, loss := p.Fewer(entries, most, func(int) bool { return true })
		if len(got) > most || loss.Removed != len(entries)-len(got) {
			t.Fatalf("%d entries of %d, expected %d: %+v", len(got), len(entries), most, loss)
		}
		var lines []table.Line
		m := p.Map("users")
		for _, e := range got {
			lines = append(lines, table.Line{Prefix: e.Prefix, Order: []string{string(m.Orders[e.Location][0])}})
		}
		small, moved, mean := table.NewMap(lines), 0.0, 0.0
		for i, prefix := range tab.Prefixes {
			l, _ := small.Lookup(netip.PrefixFrom(prefix.Addr(), 32))
			for j, pop := range tab.PoPs {
				if was := p.Orders[i][0]; pop.Name == l.Order[0] && j != int(was) {
					moved += tab.Demand[i]
					mean += tab.Demand[i] * float64(tab.Row(i)[j]-tab.Row(i)[was]) / 1000
				}
			}
		}
		moved, mean = moved/p.Figures.Demand, mean/p.Figures.Demand
		if diff := moved - loss.Moved; diff > 1e-9 || diff < -1e-9 {
			t.Errorf("%d entries: %f of the demand moved, %f is said", most, moved, loss.Moved)
		}
		if diff := mean - loss.Mean; diff > 1e-6 || diff < -1e-6 {
			t.Errorf("%d entries: the mean is %f ms more, %f is said", most, mean, loss.Mean)
		}
		if most >= len(entries)/2 && loss.Mean > 2 || loss.Moved < before {
			t.Errorf("%d entries: %+v", most, loss)
		}
		before = loss.Moved
		t.Logf("%d of %d entries: %.3f %% of the demand moves, %.4f ms", len(got), len(entries), 100*loss.Moved, loss.Mean)
	}
}

// A prefix that a longer one is in may become other entries than itself: what its clients lose is
// still told of those that have them.
func TestFewerNested(t *testing.T) {
	tab := &table.Table{PoPs: []table.PoP{{Name: "a", Capacity: 1000}, {Name: "m", Capacity: 1000}, {Name: "z", Capacity: 1000}}}
	for _, row := range []struct {
		prefix string
		demand float64
		rtt    [3]int32
	}{{"10.0.0.0/8", 10, [3]int32{100_000, 100_000, 10_000}}, {"10.0.0.0/9", 1, [3]int32{10_000, 20_000, 30_000}}, {"172.16.0.0/16", 100, [3]int32{90_000, 5_000, 80_000}}} {
		tab.Prefixes, tab.Demand, tab.RTT = append(tab.Prefixes, netip.MustParsePrefix(row.prefix)), append(tab.Demand, row.demand), append(tab.RTT, row.rtt[:]...)
	}
	p := compute(t, tab, nil, plan.DefaultSettings())
	entries, err := ortc.Aggregate(p.Map("users").Entries)
	if err != nil || len(entries) != 4 || entries[1].Prefix != tab.Prefixes[0] || entries[1].Location != "a/m/z" {
		t.Fatalf("entries %v (%v), expected 10.0.0.0/8 at a, and what is not in 10.0.0.0/9 at z", entries, err)
	}
	got, loss := p.Fewer(entries, 3, func(int) bool { return true })
	if len(got) != 3 || got[1].Location != "z/m/a" && got[1].Location != "z/a/m" || loss.Moved > 1.001/111 {
		t.Errorf("%v, %v, expected that a tenth of the demand of 10.0.0.0/8 moves, not nine", got, loss)
	}
}
