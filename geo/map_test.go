package geo

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/record"
)

var compared = cmp.Options{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()}

func rrsetsOf(t interface {
	Helper()
	Fatal(...any)
}, m Map,
) []record.RRset {
	t.Helper()
	rr, err := m.RRsets(Zone)
	if err != nil {
		t.Fatal(err)
	}
	return rr
}

// drawMap draws a map, of nested prefixes in a few networks.
func drawMap(t *rapid.T, name string) Map {
	locations := []string{"", "a", "b", "c", "d", strings.Repeat("long", 60)}
	m := Map{Name: name, Orders: map[record.Location][]record.Location{}}
	seen := map[netip.Prefix]bool{}
	for range rapid.IntRange(0, 300).Draw(t, "entries") {
		six := rapid.Bool().Draw(t, "six")
		a := netip.AddrFrom4([4]byte{192, 0, 2})
		if six {
			a = netip.MustParseAddr("2001:db8::")
		}
		b := a.AsSlice()
		for _, at := range []int{0, 1, 2, len(b) - 1} {
			if rapid.IntRange(0, 3).Draw(t, "other") == 0 {
				b[at] = rapid.Byte().Draw(t, "octet")
			}
		}
		a, _ = netip.AddrFromSlice(b)
		p := netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked()
		if !seen[p] && !(p.Addr().Is4In6() && p.Bits() >= 96) {
			seen[p] = true
			m.Entries = append(m.Entries, Entry{p, record.Location(rapid.SampledFrom(locations).Draw(t, "location"))})
		}
	}
	for _, l := range locations[1:] {
		if rapid.Bool().Draw(t, "ordered") {
			perm := rapid.Permutation([]record.Location{"a", "b", "c", "d"}).Draw(t, "order")
			m.Orders[record.Location(l)] = perm[:rapid.IntRange(1, 4).Draw(t, "pops")]
		}
	}
	for _, n := range []string{".", "example.net", "www.example.net"} {
		for _, kind := range []Kind{ByResolver, BySubnet} {
			if rapid.Bool().Draw(t, "used") {
				parsed, _ := record.ParseName(n)
				m.Uses = append(m.Uses, Use{Name: parsed, Kind: kind, Below: rapid.Bool().Draw(t, "below")})
			}
		}
	}
	return m
}

// TestMapThereAndBack writes maps as RRsets and reads them: the same comes back, each RRset
// is one that a dataset takes, and is as small as is said.
func TestMapThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMap(t, "eu")
		rr := rrsetsOf(t, m)
		for i, r := range rr {
			if err := r.Check(); err != nil {
				t.Fatal(err)
			}
			if err := CheckRRset(r); err != nil {
				t.Fatal(err)
			}
			if i > 0 && r.Key.Compare(rr[i-1].Key) <= 0 {
				t.Fatalf("%s behind %s", r.Key, rr[i-1].Key)
			}
			size := 0
			for _, d := range r.Data {
				size += 2 + len(d)
			}
			if r.Type == record.TypeMapBlock && size > blockSize {
				t.Fatalf("%s has %d octets, at most %d", r.Key, size, blockSize)
			}
		}
		rapid.Permutation(rr).Draw(t, "order")
		maps, pops, err := ParseMaps(rr)
		if err != nil || len(pops) > 0 {
			t.Fatal(pops, err)
		}
		want := []Map{m}
		want[0].Entries = m.sorted()
		slices.SortFunc(want[0].Uses, func(a, b Use) int {
			return strings.Compare(fmt.Sprint(a.Kind, below(a.Below), string(a.Name)), fmt.Sprint(b.Kind, below(b.Below), string(b.Name)))
		})
		if len(rr) == 0 {
			want = nil
		}
		if diff := cmp.Diff(want, maps, compared); diff != "" {
			t.Fatalf("map (-want +got):\n%s", diff)
		}
	})
}

// TestBlocksAreLocal changes one prefix of a large map: at most the few blocks change that
// are split or joined by it.
func TestBlocksAreLocal(t *testing.T) {
	w := world(20_000)
	m := Map{Name: "world", Entries: w.Maps["m"]}
	random := rand.New(rand.NewPCG(3, 4))
	before := map[record.Key]record.RRset{}
	for _, r := range rrsetsOf(t, m) {
		before[r.Key] = r
	}
	octets := 0
	for _, r := range before {
		octets += len(r.AppendBinary(nil))
	}
	if n := len(before); n < 40 || n > 400 {
		t.Errorf("%d blocks of %d prefixes and %d octets", n, len(m.Entries), octets)
	}
	for range 40 {
		i := random.IntN(len(m.Entries))
		changed := Map{Name: m.Name, Entries: slices.Clone(m.Entries)}
		if random.IntN(2) == 0 {
			changed.Entries[i].Location = "elsewhere"
		} else {
			changed.Entries = slices.Delete(changed.Entries, i, i+1)
		}
		differ, after := 0, rrsetsOf(t, changed)
		for _, r := range after {
			if !r.Equal(before[r.Key]) {
				differ++
			}
		}
		if gone := len(before) + differ - len(after); differ > 2 || gone > 3 {
			t.Fatalf("without or with another %s: %d blocks put, %d gone or replaced", m.Entries[i].Prefix, differ, gone)
		}
	}
}

func TestMapCheck(t *testing.T) {
	p := netip.MustParsePrefix
	one := func(e ...Entry) Map { return Map{Name: "eu", Entries: e} }
	order := func(l record.Location, pops ...record.Location) Map {
		return Map{Name: "eu", Orders: map[record.Location][]record.Location{l: pops}}
	}
	for _, c := range []struct {
		m    Map
		says string
	}{
		{Map{}, `its name is "", expected 1 to 63 of a-z`},
		{Map{Name: "EU"}, `its name is "EU"`},
		{Map{Name: "pops"}, "under which PoPs are"},
		{one(Entry{p("192.0.2.1/24"), "a"}), `map "eu": 192.0.2.1/24 has bits behind its length, expected 192.0.2.0/24`},
		{one(Entry{netip.Prefix{}, "a"}), "is no prefix"},
		{one(Entry{p("192.0.2.0/24"), "a"}, Entry{p("192.0.2.0/24"), "b"}), `192.0.2.0/24 is there twice, for "a" and "b"`},
		{one(Entry{p("::ffff:192.0.2.0/120"), "a"}), "expected the IPv4 prefix 192.0.2.0/24"},
		{one(Entry{p("::ffff:0:0/96"), "a"}), "expected the IPv4 prefix 0.0.0.0/0"},
		{one(Entry{p("192.0.2.0/24"), record.Location(strings.Repeat("x", 256))}), "location of 192.0.2.0/24 has 256 octets, at most 255"},
		{order("eu", "esams", "drmrs", "esams"), `order of location "eu": PoP "esams" is there twice, as number 1 and 3`},
		{order("eu"), `order of location "eu" has 0 PoPs`},
		{order("", "esams"), `an order is for the location ""`},
		{order("eu", "esams", ""), "PoP 2 has 0 octets"},
		{order("eu", make([]record.Location, 65)...), "has 65 PoPs, expected 1 to 64"},
		{Map{Name: "eu", Uses: []Use{{}}}, "a use has no name"},
		{Map{Name: "eu", Uses: []Use{{Name: record.Root, Map: "us"}}}, `it is a use of map "us"`},
		{Map{Name: "eu", Uses: []Use{{Name: record.Root}, {Name: record.Root, Map: "eu"}}}, ". by resolver: it is there twice"},
		{Map{Name: "eu", Uses: []Use{{Name: record.Root, Kind: 2}}}, "kind 2"},
	} {
		if _, err := c.m.RRsets(Zone); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.m, err, c.says)
		}
	}
	if _, err := (&Map{Name: "eu"}).RRsets(name(t, "example.net")); err == nil || !strings.Contains(err.Error(), "is not in maps.zonecast.internal.") {
		t.Errorf("zone of others: %v", err)
	}
	many := one()
	for i := range 30 {
		many.Entries = append(many.Entries, Entry{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(2*i + 1)}), 24), "a"})
	}
	if err := many.Check(); err == nil || !strings.Contains(err.Error(), "and 10 errors more") || strings.Count(err.Error(), "\n") != maxErrors {
		t.Errorf("30 errors: %v", err)
	}
	known := Map{
		Name: "eu", Entries: []Entry{{p("192.0.2.0/24"), "north"}, {p("198.51.100.0/24"), "esams"}, {p("203.0.113.0/24"), "nowhere"}},
		Orders: map[record.Location][]record.Location{"north": {"esams", "esasm"}},
	}
	err := known.CheckPoPs([]string{"esams", "drmrs"})
	if err == nil || !strings.Contains(err.Error(), `location "north" is served by "esasm", which is no PoP, expected one of "esams", "drmrs"`) ||
		!strings.Contains(err.Error(), `203.0.113.0/24 is at "nowhere", which has no order and is no PoP`) || strings.Contains(err.Error(), "198.51.100.0") {
		t.Errorf("PoPs: %v", err)
	}
}

// TestDamagedParts reads RRsets that are none of a map: each error says where.
func TestDamagedParts(t *testing.T) {
	owner := func(text string) record.Name { return name(t, text+".maps.zonecast.internal") }
	for _, c := range []struct {
		r    record.RRset
		says string
	}{
		{record.NewRRset(owner("8-0a.v4.eu"), record.TypeMapBlock, 60, "\x04\x0b\x00\x00\x00\x08a"), "11.0.0.0/8 is not in 10.0.0.0/8"},
		{record.NewRRset(owner("8-0a.v4.eu"), record.TypeMapBlock, 60, "\x04\x08\x00\x00\x00\x06a"), "8.0.0.0/6 is not in 10.0.0.0/8"},
		{record.NewRRset(owner("8-0a.v4.eu"), record.TypeMapBlock, 60, "\x04\x0a\x00\x00\x01\x10a"), "10.0.0.1/16 has bits behind its length"},
		{record.NewRRset(owner("8-0a.v4.eu"), record.TypeMapBlock, 60, "\x04\x0a\x00\x00\x00\x08a", "\x04\x0a\x00\x00\x00\x08b"), "10.0.0.0/8 is there twice"},
		{record.NewRRset(owner("8-0a.v4.eu"), record.TypeMapBlock, 60, "\x05\x0a\x00\x00\x00\x08a"), `an entry begins with "\x05"`},
		{record.NewRRset(owner("8-0a.v4.eu"), record.TypeMapBlock, 60, "\x04\x0a"), "has 2 octets"},
		{record.NewRRset(owner("8-0a.v4.eu"), record.TypeMapBlock, 60, "\x04\x0a\x00\x00\x00\x21a"), "10.0.0.0/33 has a length above 32"},
		{record.NewRRset(owner("0.v6.eu"), record.TypeMapBlock, 60, record.Rdata("\x06"+strings.Repeat("\x00", 10)+"\xff\xff\x0a\x00\x00\x00\x68a")), "expected the IPv4 prefix 10.0.0.0/8"},
		{record.NewRRset(owner("9-0a.v4.eu"), record.TypeMapBlock, 60, "\x04\x0a\x00\x00\x00\x08a"), "expected <length>-<digits>"},
		{record.NewRRset(owner("08-0a.v4.eu"), record.TypeMapBlock, 60, "\x04\x0a\x00\x00\x00\x08a"), "expected <length>-<digits>"},
		{record.NewRRset(owner("8-0a.v5.eu"), record.TypeMapBlock, 60, "\x04\x0a\x00\x00\x00\x08a"), "expected <length>-<digits>"},
		{record.NewRRset(name(t, "8-0a.v4.eu.example.net"), record.TypeMapBlock, 60, "\x04\x0a\x00\x00\x00\x08a"), "is not in maps.zonecast.internal."},
		{record.NewRRset(owner("0.orders.eu"), record.TypeMapOrder, 60, "\x05esams\x05drmrs"), "in another bucket"},
		{record.NewRRset(owner("3.orders.eu"), record.TypeMapOrder, 60, "\x05esa"), "cut off"},
		{record.NewRRset(owner("uses.eu"), record.TypeMapUse, 60, "\x02\x00\x00"), "a use begins with"},
		{record.NewRRset(owner("uses.eu"), record.TypeMapUse, 60, "\x00\x00\x03"), "name of a use"},
		{record.NewRRset(owner("uses.eu"), record.TypeMapUse, 60, "\x00\x00\x01A\x00"), "not in lower case"},
		{record.NewRRset(owner("esams.pops"), record.TypePoP, 60, "\x03"), "expected one octet 0 (up)"},
		{record.NewRRset(owner("esams.pops"), record.TypePoP, 60, "\x00", "\x01"), "expected one octet 0 (up)"},
		{record.NewRRset(owner("esams.popps"), record.TypePoP, 60, "\x00"), "expected <pop>.pops.<zone>"},
		{record.NewRRset(owner("esams.pops"), record.TypePoP, 60), "it is empty"},
	} {
		err := CheckRRset(c.r)
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.r.Owner.String()) {
			t.Errorf("%s %q: %v, want %q", c.r.Key, c.r.Data, err, c.says)
		}
		if _, _, err := ParseMaps([]record.RRset{c.r}); err == nil {
			t.Errorf("%s %q: ParseMaps takes it", c.r.Key, c.r.Data)
		}
	}
	located := record.NewRRset(owner("esams.pops"), record.TypePoP, 60, "\x00")
	located.Location = "a"
	if err := CheckRRset(located); err == nil || !strings.Contains(err.Error(), "for a location") {
		t.Errorf("located: %v", err)
	}
}

func TestPoPs(t *testing.T) {
	var rr []record.RRset
	want := []PoP{{"drmrs", Drained}, {"eqiad", Up}, {"esams", Down}}
	for _, p := range want {
		r, err := p.RRset(Zone)
		if err != nil {
			t.Fatal(err)
		}
		rr = append(rr, r)
	}
	maps, got, err := ParseMaps(rr)
	if err != nil || len(maps) > 0 {
		t.Fatal(maps, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("PoPs (-want +got):\n%s", diff)
	}
	for _, bad := range []PoP{{"", Up}, {"Esams", Up}, {"a.b", Up}, {"esams", 3}} {
		if _, err := bad.RRset(Zone); err == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

// FuzzPart reads RDATA of anybody in RRsets of a map: what passes comes back as it was.
func FuzzPart(f *testing.F) {
	f.Add(uint16(0), []byte("\x040-0\x02v4\x02eu"), "\x04\xc0\x00\x02\x00\x18a")
	f.Add(uint16(0), []byte("\x010\x02v6\x02eu"), "\x06"+strings.Repeat("\x20", 16)+"\x80a")
	f.Add(uint16(1), []byte("\x013\x06orders\x02eu"), "\x01a\x01b\x01c")
	f.Add(uint16(2), []byte("\x04uses\x02eu"), "\x00\x01\x03www\x00")
	f.Add(uint16(3), []byte("\x01a\x04pops"), "\x02")
	f.Fuzz(func(t *testing.T, kind uint16, labels []byte, rd string) {
		owner, _, err := record.NameFromWire(append(slices.Clone(labels), Zone...))
		if err != nil {
			return
		}
		r := record.NewRRset(owner, record.TypeMapBlock+record.Type(kind%4), 60, record.Rdata(rd))
		maps, pops, err := ParseMaps([]record.RRset{r})
		if (err == nil) != (CheckRRset(r) == nil) {
			t.Fatalf("%v, and CheckRRset: %v", err, CheckRRset(r))
		}
		if err != nil {
			return
		}
		var again []record.RRset
		for _, m := range maps {
			again = append(again, rrsetsOf(t, m)...)
		}
		for _, p := range pops {
			r, err := p.RRset(Zone)
			if err != nil {
				t.Fatal(err)
			}
			again = append(again, r)
		}
		if len(again) != 1 || !slices.Equal(again[0].Data, r.Data) {
			t.Fatalf("%v became %v", r, again)
		}
	})
}

func BenchmarkMapRRsets(b *testing.B) {
	m := Map{Name: "world", Entries: world(1_000_000).Maps["m"]}
	m.Entries = m.sorted()
	octets := 0
	for b.Loop() {
		rr, err := m.RRsets(Zone)
		if err != nil {
			b.Fatal(err)
		}
		octets = 0
		for _, r := range rr {
			octets += len(r.AppendBinary(nil))
		}
		b.ReportMetric(float64(len(rr)), "rrsets")
	}
	b.ReportMetric(float64(octets)/float64(len(m.Entries)), "octets/prefix")
}
