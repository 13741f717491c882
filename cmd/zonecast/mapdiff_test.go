package main

import (
	"net/netip"
	"testing"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/geo/ortc"
	"github.com/zonecast/zonecast/mapper/table"
	"github.com/zonecast/zonecast/record"
)

// A map and the fewest prefixes that say the same do not differ, prefixes within one another included.
func TestDiffMapsOfFewest(t *testing.T) {
	of := func(entries []geo.Entry) *table.Map {
		var lines []table.Line
		for _, e := range entries {
			lines = append(lines, table.Line{Prefix: e.Prefix, Order: []string{string(e.Location)}})
		}
		return table.NewMap(lines)
	}
	var entries []geo.Entry
	demand := &table.Table{}
	for _, e := range [][2]string{{"0.0.0.0/0", "m"}, {"10.0.0.0/8", "z"}, {"10.0.0.0/9", "a"}, {"2001:db8::/32", "a"}} {
		p := netip.MustParsePrefix(e[0])
		entries = append(entries, geo.Entry{Prefix: p, Location: record.Location(e[1])})
		demand.Prefixes, demand.Demand = append(demand.Prefixes, p), append(demand.Demand, 1)
	}
	fewest, err := ortc.Aggregate(entries)
	if err != nil {
		t.Fatal(err)
	}
	if fewest[1].Prefix != demand.Prefixes[1] || fewest[1].Location != "a" {
		t.Fatalf("entries %v, expected 10.0.0.0/8 at a, and what is not in 10.0.0.0/9 at z", fewest)
	}
	if v := diffMaps(of(entries), of(fewest), demand); v.Moved != 0 || v.Orders != 0 || v.Share != 0 || v.Demand != 4 || v.Prefixes != 5 {
		t.Errorf("%+v, expected no difference", v)
	}
	entries[1].Location = "m"
	if v := diffMaps(of(fewest), of(entries), demand); v.Share != 0.25 || len(v.Moves) != 1 || v.Moves[0].From != "z" || v.Moves[0].To != "m" || v.Moves[0].Demand != 1 {
		t.Errorf("%+v, expected that 10.0.0.0/8 goes from z to m", v)
	}
}
