package fill_test

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/mapper/assign"
	"github.com/zonecast/zonecast/mapper/fill"
	"github.com/zonecast/zonecast/mapper/table"
)

const none = table.Missing

// sites are far enough apart for light to tell.
func sites() []table.PoP {
	return []table.PoP{
		{Name: "esams", Latitude: 52.3, Longitude: 4.9, Located: true, Capacity: 1},
		{Name: "eqiad", Latitude: 39.0, Longitude: -77.5, Located: true, Capacity: 1},
		{Name: "ulsfo", Latitude: 37.8, Longitude: -122.4, Located: true, Capacity: 1},
		{Name: "eqsin", Latitude: 1.3, Longitude: 103.8, Located: true, Capacity: 1},
	}
}

// rows makes a table of milliseconds, each row with a prefix of its own.
func rows(pops []table.PoP, ms ...[]int32) *table.Table {
	t := &table.Table{PoPs: pops}
	for i, row := range ms {
		t.Prefixes = append(t.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24))
		t.Demand = append(t.Demand, 1)
		for _, v := range row {
			if v != none {
				v *= 1000
			}
			t.RTT = append(t.RTT, v)
		}
	}
	return t
}

func TestDistance(t *testing.T) {
	for _, c := range []struct{ a, b, c, d, want float64 }{
		{52.3, 4.9, 52.3, 4.9, 0},
		{0, 0, 0, 180, math.Pi * 6371.0088},
		{90, 0, -90, 50, math.Pi * 6371.0088},
		{52.3, 4.9, 39.0, -77.5, 6195}, // Amsterdam to Ashburn
	} {
		if got := fill.Distance(c.a, c.b, c.c, c.d); math.Abs(got-c.want) > 20 {
			t.Errorf("%v: %.0f km, expected %.0f", c, got, c.want)
		}
	}
}

// One who says that he is 1 ms from a PoP does not move a prefix: light tells, from where the
// prefix is, or from the PoPs that it is near to.
func TestLiar(t *testing.T) {
	lie := []int32{9, 95, 150, 1} // from Europe, and 1 ms to Singapore
	tab := rows(sites(), lie)
	f, err := fill.Fill(tab, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.Struck[3] != 1 || f.Source(0, 3) == fill.Measured || tab.RTT[3] < 95_000 {
		t.Errorf("struck %v, the time to eqsin is now %d µs by %s", f.Struck, tab.RTT[3], f.Source(0, 3))
	}
	if diff := cmp.Diff([]int32{9000, 95_000, 150_000}, tab.RTT[:3]); diff != "" {
		t.Errorf("what was true (-want +got):\n%s", diff)
	}
	// Of two it cannot be told who lies: neither is believed.
	tab = rows(sites(), []int32{9, none, none, 1})
	if f, err = fill.Fill(tab, nil); err != nil || f.Cells[fill.Measured] != 0 {
		t.Errorf("%v, %d are believed", err, f.Cells[fill.Measured])
	}
	// Who says it of all PoPs is a liar throughout.
	tab = rows(sites(), []int32{1, 1, 1, 1}, []int32{9, 95, 150, 180})
	if f, err = fill.Fill(tab, nil); err != nil || f.Cells[fill.Measured] != 4 {
		t.Errorf("%v, %d are believed, expected the 4 of the other", err, f.Cells[fill.Measured])
	}
	// The place of the prefix tells it of a single time.
	tab = rows(sites(), []int32{none, none, none, 1})
	if f, err = fill.Fill(tab, []fill.Place{{Located: true, Latitude: 52, Longitude: 5}}); err != nil || f.Cells[fill.Measured] != 0 || tab.RTT[3] < 60_000 || tab.RTT[0] > tab.RTT[3] {
		t.Errorf("%v, %d are believed, times %v", err, f.Cells[fill.Measured], tab.RTT)
	}
}

// A PoP with wrong coordinates is not a thousand liars.
func TestWrongCoordinates(t *testing.T) {
	pops := sites()
	pops[0].Latitude, pops[0].Longitude = -33.9, 151.2 // and is in Amsterdam
	var all [][]int32
	for i := range int32(100) {
		all = append(all, []int32{170 + i%5, 230, 180, 5 + i%3}, []int32{10 + i%4, 90, 150, 175})
	}
	tab := rows(pops, all...)
	f, err := fill.Fill(tab, nil)
	if err != nil || !f.Suspect[0] || f.Suspect[3] || f.Cells[fill.Measured] != 800 {
		t.Errorf("%v, suspect %v, %d of 800 are believed", err, f.Suspect, f.Cells[fill.Measured])
	}
}

// What is missing comes from the first that knows it: covering prefix, AS, country, continent,
// distance, all; shifted by how much slower the prefix's own line is.
func TestLevels(t *testing.T) {
	tab := rows(sites(),
		[]int32{20, 100, none, none}, // 0: eqiad by its AS would be 90
		[]int32{10, 90, 150, 170},    // 1 to 3: the AS
		[]int32{11, 91, 151, 171},
		[]int32{9, 89, 149, 900},
		[]int32{30, none, none, none},   // 4: in the country, not in the AS
		[]int32{none, none, none, none}, // 5: in the continent
		[]int32{none, none, none, none}, // 6: nothing is known
		[]int32{none, none, none, none}, // 7: within prefix 1
	)
	tab.Prefixes[7] = netip.MustParsePrefix("10.0.1.128/25")
	place := func(as uint32, country, continent string) (p fill.Place) {
		p.AS = as
		copy(p.Country[:], country)
		copy(p.Continent[:], continent)
		return p
	}
	in := place(64500, "NL", "EU")
	f, err := fill.Fill(tab, []fill.Place{in, in, in, in, place(64501, "NL", "EU"), place(0, "BE", "EU"), {}, {}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range tab.Prefixes {
		levels := ""
		for j := range tab.PoPs {
			levels += f.Source(i, j).String()[:2] + " "
		}
		got = append(got, strings.TrimSpace(levels))
	}
	want := []string{"me me AS AS", "me me me me", "me me me me", "me me me me", "me co co co", "co co co co", "al al al al", "co co co co"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	// Its own times are 9 to 10 ms slower than the AS's medians, 10 and 91 (lower of the middle).
	if row := tab.Row(0); row[2] != 150_000+10_000-1000 && row[2] != 160_000 && row[2] != 159_000 {
		t.Errorf("by the AS: %v", row)
	}
	if diff := cmp.Diff([]int32{10_000, 90_000, 150_000, 170_000}, tab.Row(7)); diff != "" {
		t.Errorf("within prefix 1 (-want +got):\n%s", diff)
	}
	if row := tab.Row(6); row[3] > 200_000 {
		t.Errorf("one of 900 ms moves the median: %v", row)
	}
	sum := 0
	for _, n := range f.Cells {
		sum += n
	}
	if sum != len(tab.RTT) {
		t.Errorf("%d cells are counted, there are %d", sum, len(tab.RTT))
	}
}

// Who is close to one PoP is not for that close to all: without places nobody leaves a PoP that
// was measured for one that was not.
func TestGuessIsNoMeasurement(t *testing.T) {
	tab := rows(sites(),
		[]int32{20, 90, 220, none},
		[]int32{95, 12, 160, none},
		[]int32{none, 170, 30, none}, // its others are 130 ms faster than all prefixes' median
		[]int32{80, 25, none, none},
		[]int32{1500, none, none, none}, // by satellite
	)
	if _, err := fill.Fill(tab, nil); err != nil {
		t.Fatal(err)
	}
	for i, best := range []int{0, 1, 2, 1, 0} {
		for j, v := range tab.Row(i) {
			if j != best && v <= tab.Row(i)[best] {
				t.Errorf("prefix %d: PoP %d is taken for %d µs, the best that was measured is PoP %d with %d", i, j, v, best, tab.Row(i)[best])
			}
		}
	}
}

// A PoP that nothing was measured to is filled by distance, and without places is avoided.
func TestNewPoP(t *testing.T) {
	for _, located := range []bool{true, false} {
		tab := rows(sites(), []int32{10, 90, 150, none}, []int32{180, 230, 190, none})
		places := []fill.Place{{Located: located, Latitude: 52, Longitude: 5}, {Located: located, Latitude: 3, Longitude: 101}}
		f, err := fill.Fill(tab, places)
		if err != nil {
			t.Fatal(err)
		}
		near := tab.Row(1)[3] < tab.Row(1)[0]
		if near != located || tab.Row(0)[3] < 100_000 {
			t.Errorf("located %v: %v by %s", located, tab.RTT, f.Source(1, 3))
		}
	}
}

// Whatever is missing or absurd, there is a time in the end, and what is plausible stays.
func TestAnything(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 8))
	for range 50 {
		tab := rows(sites())
		for range r.IntN(300) {
			row := make([]int32, 4)
			for j := range row {
				if row[j] = none; r.IntN(3) > 0 {
					row[j] = r.Int32N(assign.MaxRTT / 1000)
				}
			}
			one := rows(sites(), row)
			tab.Prefixes = append(tab.Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(r.IntN(256)), byte(r.IntN(4))}), 8+r.IntN(9)).Masked())
			tab.Demand, tab.RTT = append(tab.Demand, 1), append(tab.RTT, one.RTT...)
		}
		places := make([]fill.Place, len(tab.Prefixes))
		for i := range places {
			places[i] = fill.Place{AS: r.Uint32N(5), Located: r.IntN(2) == 0, Latitude: float32(r.IntN(180) - 90), Longitude: float32(r.IntN(360) - 180)}
		}
		before := slices.Clone(tab.RTT)
		f, err := fill.Fill(tab, places)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range tab.RTT {
			measured := f.Source(i/4, i%4) == fill.Measured
			if v < 0 || v > assign.MaxRTT || measured && v != before[i] || measured && before[i] == none {
				t.Fatalf("cell %d: %d, was %d, measured %v", i, v, before[i], measured)
			}
		}
	}
	if _, err := fill.Fill(rows(sites(), []int32{1, 1, 1, 1}), []fill.Place{}); err == nil {
		t.Error("no error of places that are too few")
	}
}

// A place where nothing was measured is as far as its country is, or its distance, also when the table has no gaps.
func TestAt(t *testing.T) {
	nl := fill.Place{Country: [2]byte{'N', 'L'}, Continent: [2]byte{'E', 'U'}, Located: true, Latitude: 52.3, Longitude: 4.9}
	pops := []table.PoP{{Name: "esams", Latitude: 52.3, Longitude: 4.9, Located: true, Capacity: 1}, {Name: "eqsin", Latitude: 1.3, Longitude: 103.8, Located: true, Capacity: 1}}
	tab := &table.Table{PoPs: pops}
	var places []fill.Place
	for _, prefix := range []string{"192.0.2.0/26", "192.0.2.64/26", "192.0.2.128/26"} {
		tab.Prefixes, tab.Demand, tab.RTT = append(tab.Prefixes, netip.MustParsePrefix(prefix)), append(tab.Demand, 1), append(tab.RTT, 10_000, 200_000)
		places = append(places, nl)
	}
	f, err := fill.Fill(tab, places)
	if err != nil {
		t.Fatal(err)
	}
	if row, from := f.At(nl); from != fill.Country || row[0] != 10_000 || row[1] != 200_000 {
		t.Errorf("%v by %v, expected what the country has", row, from)
	}
	sg := fill.Place{Country: [2]byte{'S', 'G'}, Located: true, Latitude: 1.3, Longitude: 103.8}
	if row, from := f.At(sg); from != fill.Geography || row[1] >= row[0] {
		t.Errorf("%v by %v, expected the distance", row, from)
	}
	if row, from := f.At(fill.Place{}); from != fill.All || row[0] != 10_000 {
		t.Errorf("%v by %v, expected all together", row, from)
	}
}
