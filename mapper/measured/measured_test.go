package measured_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/mapper/measured"
	"github.com/zonecast/zonecast/mapper/table"
	"github.com/zonecast/zonecast/rtt"
)

var (
	begin  = time.Unix(1_800_000_000, 0)
	pops   = []table.PoP{{Name: "esams", Capacity: 1}, {Name: "eqiad", Capacity: 1}}
	client = rtt.Key{Kind: rtt.Client, Prefix: netip.MustParsePrefix("192.0.2.0/24")}
)

// add notes n measurements of as many clients.
func add(t *testing.T, to *rtt.Table, k rtt.Key, pop string, ms, n int, at time.Time) {
	t.Helper()
	for i := range n {
		if err := to.Add(rtt.Measurement{Key: k, PoP: pop, RTT: time.Duration(ms) * time.Millisecond, Client: uint64(i), At: at}); err != nil {
			t.Fatal(err)
		}
	}
}

// near tells whether a time is what was measured, as far as sketches say.
func near(got int32, ms float64) bool { return float64(got) > 970*ms && float64(got) < 1030*ms }

// Times need measurements and clients; newer ones count before older ones; demand is per second.
func TestNew(t *testing.T) {
	older, newer := rtt.New(rtt.Limit{}), rtt.New(rtt.Limit{})
	add(t, older, client, "esams", 100, 20, begin)
	add(t, older, client, "eqiad", 90, 20, begin)
	add(t, newer, client, "esams", 10, 20, begin.Add(100*time.Second))
	add(t, newer, client, "gone", 10, 20, begin.Add(100*time.Second))
	resolver := rtt.Key{Kind: rtt.Resolver, Prefix: client.Prefix}
	add(t, newer, resolver, "esams", 1, 2, begin.Add(100*time.Second))
	for tab, at := range map[*rtt.Table]time.Time{older: begin, newer: begin.Add(100 * time.Second)} {
		if err := tab.AddDemand(client, 250, 35, at); err != nil {
			t.Fatal(err)
		}
	}
	set := measured.Settings{Measurements: 5, Clients: 3, Enough: 10, Demand: 2}
	m, err := measured.New([]*rtt.Table{older, newer}, pops, set)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]rtt.Key{client, resolver}, m.Keys, cmp.Comparer(func(a, b rtt.Key) bool { return a == b })); diff != "" {
		t.Fatalf("keys (-want +got):\n%s", diff)
	}
	if row := m.Row(0); !near(row[0], 10) || !near(row[1], 90) {
		t.Errorf("times %v µs, expected the newer 10 ms to esams, and 90 ms to eqiad", row)
	}
	if row := m.Row(1); row[0] != table.Missing || m.Thin != 1 || m.Unknown["gone"] != 1 || !m.Newest.Equal(begin.Add(100*time.Second)) {
		t.Errorf("row %v, %d thin, %v of unknown PoPs, newest %s", row, m.Thin, m.Unknown, m.Newest)
	}
	if diff := cmp.Diff([]float64{10, 0}, m.Demand); diff != "" { // 500 in 100 s, each for 2
		t.Errorf("demand (-want +got):\n%s", diff)
	}
	set.Queries = true
	if m, err = measured.New([]*rtt.Table{older, newer}, pops, set); err != nil || m.Demand[0] != 1.4 {
		t.Errorf("%v, by queries %v", err, m.Demand)
	}
	if _, err := measured.New(nil, nil, set); err == nil || !strings.Contains(err.Error(), "0 PoPs") {
		t.Error(err)
	}
}

// A file of demand takes the place of what was counted, and may name other prefixes.
func TestReplace(t *testing.T) {
	tab := rtt.New(rtt.Limit{})
	add(t, tab, client, "esams", 10, 20, begin)
	if err := tab.AddDemand(client, 500, 0, begin); err != nil {
		t.Fatal(err)
	}
	m, err := measured.New([]*rtt.Table{tab}, pops, measured.Settings{Demand: 1})
	if err != nil {
		t.Fatal(err)
	}
	before := netip.MustParsePrefix("10.0.0.0/8")
	m.Replace(&table.Table{Prefixes: []netip.Prefix{before}, Demand: []float64{7}})
	if m.Prefixes[0] != before || m.Prefixes[1] != client.Prefix || m.Demand[0] != 7 || m.Demand[1] != 0 || m.Row(0)[0] != table.Missing || !near(m.Row(1)[0], 10) {
		t.Errorf("%v with demand %v, times %v", m.Prefixes, m.Demand, m.RTT)
	}
}

// Demand is what was counted in the time in which it was counted: neither imports of long ago, which have none, nor
// a clock that was set while a table was filled make it less.
func TestDemandOfItsTime(t *testing.T) {
	counted := rtt.New(rtt.Limit{})
	add(t, counted, client, "esams", 10, 20, begin)
	for _, at := range []time.Time{begin, begin.Add(100 * time.Second)} {
		if err := counted.AddDemand(client, 250, 0, at); err != nil {
			t.Fatal(err)
		}
	}
	imported := rtt.New(rtt.Limit{})
	add(t, imported, client, "esams", 10, 20, begin.Add(-30*24*time.Hour))
	add(t, imported, client, "eqiad", 10, 20, begin)
	clock := rtt.New(rtt.Limit{})
	for _, at := range []time.Time{time.Unix(60, 0), begin.Add(50 * time.Second)} {
		if err := clock.AddDemand(client, 0, 0, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := clock.AddDemand(client, 100, 0, begin.Add(50*time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tables []*rtt.Table
		want   float64
	}{{[]*rtt.Table{counted}, 5}, {[]*rtt.Table{counted, imported}, 5}, {[]*rtt.Table{counted, imported, clock}, 6}, {[]*rtt.Table{clock}, 100.0 / (24 * 3600)}} {
		m, err := measured.New(c.tables, pops, measured.Settings{Demand: 1})
		if err != nil || m.Demand[0] != c.want {
			t.Errorf("%d tables: demand %v a second, %v, expected %v", len(c.tables), m.Demand, err, c.want)
		}
	}
}

// Rows that say nothing are none, and who makes up prefixes in queries takes no place of what was measured.
func TestRows(t *testing.T) {
	tab := rtt.New(rtt.Limit{})
	add(t, tab, client, "esams", 10, 20, begin)
	for n := range 100 {
		k := rtt.Key{Kind: rtt.Client, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(n), 0}), 24)}
		if err := tab.AddDemand(k, 0, 1, begin.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := measured.New([]*rtt.Table{tab}, pops, measured.Settings{Demand: 1})
	if err != nil || len(m.Keys) != 1 || m.Keys[0] != client {
		t.Errorf("keys %v, %v, expected %v alone", m.Keys, err, client)
	}
	m, err = measured.New([]*rtt.Table{tab}, pops, measured.Settings{Demand: 1, Queries: true, Rows: 10})
	if err != nil || len(m.Keys) != 10 || m.Evicted != 91 || m.Believed[0] != 1 || m.Believed[1] != 0 {
		t.Errorf("%d rows, %d evicted, %v believed, %v, expected 10, 91 and one to esams", len(m.Keys), m.Evicted, m.Believed, err)
	}
}
