package tinydns_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/internal/tinydns"
	"github.com/zonecast/zonecast/record"
)

func name(t *testing.T, text string) record.Name {
	t.Helper()
	n, err := record.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestReport: what the format cannot say is reported, and left out or written.
func TestReport(t *testing.T) {
	a, aaaa := record.Rdata("\xc0\x00\x02\x01"), record.Rdata(strings.Repeat("\x01", 16))
	one := func(typ record.Type, loc string, data record.Rdata, terms record.Terms) record.Set {
		return record.NewSet("\x01a\x00", typ, record.Location(loc), []record.Rdata{data}, []record.Terms{terms})
	}
	two := func(typ record.Type, choose int, weight uint32) record.Set {
		s := record.NewSet("\x01a\x00", typ, "", []record.Rdata{a, a + "x"}, []record.Terms{{TTL: 60, Weight: 1}, {TTL: 60, Weight: weight}})
		s.Choose = choose
		return s
	}
	plain := record.Terms{TTL: 60, Weight: 1}
	many := make([]record.Rdata, 9)
	for i := range many {
		many[i] = record.Rdata([]byte{192, 0, 2, byte(i)})
	}
	for _, tc := range []struct {
		what string
		set  record.Set
		want string // in the report
		line string // written
	}{
		{"fine", one(1, "lo", a, plain), "", "+a.:192.0.2.1:60::lo"},
		{"long location", one(1, "site", a, plain), "left out: location \"site\" has 4 octets", ""},
		{"colon", one(1, "a:", a, plain), "left out: location \"a:\" has an octet", ""},
		{"newline", one(1, "\n ", a, plain), "left out: location", ""},
		{"zero", one(1, "\x00\x00", a, plain), "left out: location", ""},
		{"start and end", one(1, "", a, record.Terms{TTL: 60, Weight: 1, From: 5, Until: 9}), "left out: a record with a start and an end", ""},
		{"start without TTL", one(1, "", a, record.Terms{Weight: 1, From: 5}), "left out: a record with a start and TTL 0", ""},
		{"end with TTL", one(1, "", a, record.Terms{TTL: 60, Weight: 1, Until: 9}), "said differently: a record with an end", "+a.:192.0.2.1:0:4000000000000012"},
		{"too large", one(65400, "", record.Rdata(strings.Repeat("x", 32751)), plain), "left out: RDATA has 32751 octets", ""},
		{"malformed NS", one(2, "", "\x05a", plain), "left out: RDATA of 2 octets is malformed", ""},
		{"malformed SOA", one(6, "", "\x00\x00", plain), "left out: RDATA of 2 octets is malformed", ""},
		{"malformed MX", one(15, "", "\x00", plain), "left out: RDATA of 1 octets is malformed", ""},
		{"malformed A", one(1, "", "abc", plain), "", ":a.:1:abc:60"},
		{"all AAAA", record.NewSet("\x01a\x00", 28, "", []record.Rdata{aaaa}, []record.Terms{plain}), "", ":a.:28:" + strings.Repeat(`\001`, 16) + ":60"},
		{"one of two", two(65400, 1, 1), "said differently: 1 of 2 records are answered, tinydns answers 2", ":a.:65400:\\300\\000\\002\\001:60\n:a.:65400:\\300\\000\\002\\001x:60"},
		{"weights", two(65400, 0, 2), "said differently: records have weights", ":a.:65400:\\300\\000\\002\\001:60\n:a.:65400:\\300\\000\\002\\001x:60"},
	} {
		var b bytes.Buffer
		r, err := tinydns.WriteText(&b, slices.Values([]record.Set{tc.set}), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSuffix(b.String(), "\n"); got != tc.line {
			t.Errorf("%s: wrote %q, expected %q", tc.what, got, tc.line)
		}
		got := fmt.Sprint(r.Problems)
		if (tc.want == "") != (len(r.Problems) == 0) || !strings.Contains(got, tc.want) {
			t.Errorf("%s: reported %s, expected %q", tc.what, got, tc.want)
		}
	}
	nine := record.Set{RRset: record.NewRRset("\x01a\x00", 1, 60, many...)}
	for choose, problems := range map[int]int{0: 1, 8: 0, 1: 1, 9: 1} {
		nine.Choose = choose
		r, err := tinydns.WriteText(&bytes.Buffer{}, slices.Values([]record.Set{nine}), nil)
		if err != nil || len(r.Problems) != problems {
			t.Errorf("choose %d of nine: %v %v, expected %d problems", choose, r.Problems, err, problems)
		}
	}
}

func TestReportOfMaps(t *testing.T) {
	atlas := &geo.Atlas{
		Maps: map[string][]geo.Entry{
			"m":  {{Prefix: netip.MustParsePrefix("2001:db8::/32"), Location: "lo"}, {Prefix: netip.MustParsePrefix("192.0.2.0/24"), Location: "site"}, {Prefix: netip.MustParsePrefix("198.51.100.0/23"), Location: "lo"}},
			"m2": {},
		},
		Uses: []geo.Use{{Name: record.Root, Below: true, Kind: geo.ByResolver, Map: "m"}, {Name: name(t, "example.net"), Kind: geo.BySubnet, Map: "m2"}},
	}
	var b bytes.Buffer
	r, err := tinydns.WriteText(&b, slices.Values([]record.Set(nil)), atlas)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Problems {
		fmt.Fprintln(&b, p)
	}
	want := `%lo:198.51.100
%lo:198.51.101
map "m2": left out: it is used for some names or for client subnets, tinydns has one map, by the client's address
map "m2": left out: its 0 prefixes: tinydns has one map, by the client's address
2001:db8::/32: left out: tinydns has locations for IPv4 alone
192.0.2.0/24: left out: location "site" has 4 octets, tinydns has locations of two
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// longest is where ip is by the longest prefix: a scan.
func longest(entries []geo.Entry, ip netip.Addr) (lo record.Location) {
	best := -1
	for _, e := range entries {
		if e.Prefix.Contains(ip) && e.Prefix.Bits() > best {
			best, lo = e.Prefix.Bits(), e.Location
		}
	}
	return lo
}

// TestPrefixesToOctets: prefixes of any length that are written as ones that end at
// an octet give every address the location it had.
func TestPrefixesToOctets(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 2))
		var entries []geo.Entry
		seen := map[netip.Prefix]bool{}
		for range 12 {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(4)), byte(r.IntN(256))}), r.IntN(33)).Masked()
			if !seen[p] {
				seen[p] = true
				entries = append(entries, geo.Entry{Prefix: p, Location: record.Location([]byte{'a', 'a' + byte(r.IntN(4))})})
			}
		}
		atlas := &geo.Atlas{Maps: map[string][]geo.Entry{"m": entries}, Uses: []geo.Use{{Name: record.Root, Below: true, Map: "m"}}}
		var b bytes.Buffer
		if r, err := tinydns.WriteText(&b, slices.Values([]record.Set(nil)), atlas); err != nil || len(r.Problems) > 0 {
			t.Fatal(err, r.Problems)
		}
		read := parseText(t, b.Bytes()).Atlas.Maps["\x00\x00"]
		for range 2000 {
			ip := netip.AddrFrom4([4]byte{10, byte(r.IntN(5)), byte(r.IntN(5)), byte(r.IntN(256))})
			if got, want := longest(read, ip), longest(entries, ip); got != want {
				t.Fatalf("seed %d: %s is at %q, expected %q, of\n%s", seed, ip, string(got), string(want), b.Bytes())
			}
		}
	}
}

// TestRanges: prefixes that are made of ranges give every address the location of the
// last range that begins at or before it.
func TestRanges(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		random := func() netip.Addr {
			if r.IntN(2) == 0 {
				return netip.AddrFrom4([4]byte{192, 0, byte(r.IntN(3)), byte(r.IntN(256))})
			}
			a := [16]byte{15: byte(r.IntN(256))}
			a[r.IntN(16)] = byte(r.IntN(256))
			return netip.AddrFrom16(a).Unmap()
		}
		type point struct {
			at netip.Addr
			lo string
		}
		var points []point
		var text bytes.Buffer
		for range 10 {
			p := point{random(), []string{"", "aa", "bb", "cc"}[r.IntN(4)]}
			if slices.ContainsFunc(points, func(q point) bool { return q.at == p.at }) {
				continue
			}
			points = append(points, p)
			fmt.Fprintf(&text, "!m1,%s,%d,%s\n", p.at, r.IntN(33), p.lo)
		}
		d, err := tinydns.ParseRocks(&text, "rocks", changed)
		if err != nil {
			t.Fatal(err)
		}
		// As one order of all addresses, those of IPv4 stand in ::ffff:0:0/96.
		wide := func(a netip.Addr) netip.Addr { return netip.AddrFrom16(a.As16()) }
		slices.SortFunc(points, func(a, b point) int { return wide(a.at).Compare(wide(b.at)) })
		for range 500 {
			ip, want := random(), ""
			for _, p := range points {
				if wide(p.at).Compare(wide(ip)) <= 0 {
					want = p.lo
				}
			}
			if got := longest(d.Atlas.Maps["m1"], ip); string(got) != want {
				t.Fatalf("seed %d: %s is at %q, expected %q", seed, ip, string(got), want)
			}
		}
	}
}

func TestBounds(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"'a.example.net:" + strings.Repeat("x", 1<<19), "line is longer than 524288 octets"},
		{"#" + strings.Repeat("x", 1<<19) + "\n", "line is longer than 524288 octets"},
		{strings.Repeat("'a.example.net:"+strings.Repeat("x", 30000)+"\n'a.example.net:"+strings.Repeat("y", 30000)+"\n'a.example.net:"+strings.Repeat("z", 30000)+"\n", 1), "octets, at most"},
	} {
		_, err := tinydns.ParseText(strings.NewReader(tc.text), "data", changed)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, expected %q", err, tc.want)
		}
	}
	d := parseText(t, []byte(strings.Repeat("+a.example.net:192.0.2.1:60x\n", 10005)))
	if n := len(d.Notes); n != 10001 || d.Notes[n-1].Text != "5 more notes" {
		t.Errorf("%d notes, the last is %q, expected 10001 and that 5 more are not kept", n, d.Notes[n-1])
	}
}
