package geo

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/record"
)

func name(t testing.TB, text string) record.Name {
	t.Helper()
	n, err := record.ParseName(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func chart(t interface {
	Helper()
	Fatal(...any)
}, a Atlas,
) *Chart {
	t.Helper()
	b, err := a.AppendBinary(nil, 7)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Chart) ask(n record.Name, resolver string, subnet string) string {
	var r netip.Addr
	var s netip.Prefix
	if resolver != "" {
		r = netip.MustParseAddr(resolver)
	}
	if subnet != "" {
		s = netip.MustParsePrefix(subnet)
	}
	p := c.Locate([]byte(n), n.Labels(), r, s)
	return fmt.Sprintf("%s/%d", p.Location, p.Scope)
}

// TestEveryAddress draws nested prefixes of the last octet and compares every address,
// at every length, with what the definition says: the longest prefix around it, and the
// largest scope in which all addresses have the same location.
func TestEveryAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := netip.MustParseAddr(rapid.SampledFrom([]string{"0.0.0.0", "192.0.2.0", "255.255.255.0", "::", "2001:db8::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00"}).Draw(t, "base"))
		width := base.BitLen()
		at := func(i int) netip.Addr {
			b := base.AsSlice()
			b[len(b)-1] = byte(i)
			a, _ := netip.AddrFromSlice(b)
			return a
		}
		entries := map[netip.Prefix]record.Location{}
		for range rapid.IntRange(0, 12).Draw(t, "entries") {
			bits := rapid.OneOf(rapid.IntRange(width-8, width), rapid.IntRange(0, width)).Draw(t, "bits")
			p := netip.PrefixFrom(at(rapid.IntRange(0, 255).Draw(t, "at")), bits).Masked()
			entries[p] = record.Location(rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "location"))
		}
		a := Atlas{Maps: map[string][]Entry{"m": {}}, Uses: []Use{{Name: record.Root, Kind: BySubnet, Map: "m"}}}
		for p, l := range entries {
			a.Maps["m"] = append(a.Maps["m"], Entry{p, l})
		}
		c := chart(t, a)
		// longest is the location of the longest prefix around all of p.
		longest := func(p netip.Prefix) (found record.Location) {
			best := -1
			for e, l := range entries {
				if e.Bits() <= p.Bits() && e.Contains(p.Addr()) && e.Bits() > best {
					best, found = e.Bits(), l
				}
			}
			return found
		}
		whole := func(a netip.Addr) record.Location { return longest(netip.PrefixFrom(a, width)) }
		// uniform tells whether all addresses of p have one location. What lies outside the
		// last octet is told by the prefixes' edges.
		uniform := func(p netip.Prefix) bool {
			want := whole(p.Addr())
			for e, l := range entries {
				if e.Bits() > p.Bits() && p.Contains(e.Addr()) && l != want {
					return false
				}
			}
			if p.Bits() >= width-8 {
				for i := range 256 {
					if x := at(i); p.Contains(x) && whole(x) != want {
						return false
					}
				}
			}
			return true
		}
		for i := range 256 {
			for _, length := range []int{width, width - 1, width - 4, width - 8, width - 12, 1} {
				subnet := netip.PrefixFrom(at(i), length).Masked()
				got := c.Locate([]byte(record.Root), 0, netip.Addr{}, subnet)
				scope := int(got.Scope)
				if want := longest(subnet); scope > length && string(got.Location) != string(want) {
					t.Fatalf("%s, too coarse for its scope %d: %q, want %q", subnet, scope, got.Location, want)
				}
				if want := whole(subnet.Addr()); scope <= length && string(got.Location) != string(want) {
					t.Fatalf("%s: %q, want %q", subnet, got.Location, want)
				}
				if p := netip.PrefixFrom(subnet.Addr(), scope).Masked(); !uniform(p) {
					t.Fatalf("%s: scope %d has several locations", subnet, scope)
				}
				if scope == 0 {
					continue
				}
				// One bit less: not all are alike, unless an entry says the same twice.
				p := netip.PrefixFrom(subnet.Addr(), scope-1).Masked()
				if p.Bits() >= width-8 && uniform(p) {
					t.Fatalf("%s: scope %d, but %s has one location", subnet, scope, p)
				}
			}
		}
	})
}

func TestWhichMap(t *testing.T) {
	a := Atlas{
		Maps: map[string][]Entry{
			"default": {{netip.MustParsePrefix("192.0.2.0/24"), "d1"}, {netip.MustParsePrefix("2001:db8::/32"), "d6"}},
			"exact":   {{netip.MustParsePrefix("192.0.2.0/24"), "e1"}},
			"below":   {{netip.MustParsePrefix("192.0.2.0/24"), "b1"}},
			"subnet":  {{netip.MustParsePrefix("198.51.100.0/24"), "s1"}, {netip.MustParsePrefix("203.0.113.0/25"), ""}},
			"empty":   {},
		},
		Uses: []Use{
			{Name: record.Root, Below: true, Map: "default"},
			{Name: name(t, "www.example.net"), Map: "exact"},
			{Name: name(t, "example.net"), Below: true, Map: "below"},
			{Name: name(t, "www.example.net"), Kind: BySubnet, Map: "subnet"},
			{Name: name(t, "cdn.example.net"), Below: true, Kind: BySubnet, Map: "empty"},
		},
	}
	c := chart(t, a)
	for _, q := range []struct{ name, resolver, subnet, want string }{
		{"www.example.net", "192.0.2.1", "", "e1/0"},
		{"www.example.net", "::ffff:192.0.2.1", "", "e1/0"},
		{"a.www.example.net", "192.0.2.1", "", "b1/0"},
		{"example.net", "192.0.2.1", "", "d1/0"},
		{".", "192.0.2.1", "", "d1/0"},
		{"example.org", "2001:db8::1", "", "d6/0"},
		{"example.org", "192.0.3.1", "", "/0"},
		{"www.example.net", "192.0.2.1", "198.51.100.0/24", "s1/24"},
		{"www.example.net", "192.0.2.1", "198.51.100.7/32", "s1/24"},
		{"www.example.net", "192.0.2.1", "198.51.0.0/16", "e1/18"}, // too coarse to tell
		{"www.example.net", "192.0.2.1", "203.0.113.0/24", "e1/5"}, // nobody is there: by resolver
		{"www.example.net", "192.0.2.1", "0.0.0.0/0", "e1/0"},
		{"www.example.net", "192.0.2.1", "2001:db8::/56", "e1/0"},
		{"x.cdn.example.net", "192.0.2.1", "198.51.100.0/24", "b1/0"},
		{"cdn.example.net", "192.0.2.1", "198.51.100.0/24", "b1/0"},
		{"www.example.net", "", "", "/0"},
	} {
		if got := c.ask(name(t, q.name), q.resolver, q.subnet); got != q.want {
			t.Errorf("%s from %s for %s: %s, want %s", q.name, q.resolver, q.subnet, got, q.want)
		}
	}
	var none Chart
	if got := none.ask(name(t, "www.example.net"), "192.0.2.1", "198.51.100.0/24"); got != "/0" || !none.Empty() {
		t.Errorf("the zero Chart: %s", got)
	}
}

func TestCheck(t *testing.T) {
	p := netip.MustParsePrefix
	for _, c := range []struct {
		atlas Atlas
		says  string
	}{
		{Atlas{Maps: map[string][]Entry{"m": {{p("192.0.2.1/24"), "a"}}}}, `map "m": 192.0.2.1/24 is no prefix without bits`},
		{Atlas{Maps: map[string][]Entry{"m": {{netip.Prefix{}, "a"}}}}, `map "m": invalid Prefix is no prefix`},
		{Atlas{Maps: map[string][]Entry{"m": {{p("192.0.2.0/24"), "a"}, {p("192.0.2.0/24"), "b"}}}}, `192.0.2.0/24 is there twice`},
		{Atlas{Maps: map[string][]Entry{"m": {{p("192.0.2.0/24"), record.Location(strings.Repeat("x", 256))}}}}, "has 256 octets, at most 255"},
		{Atlas{Maps: map[string][]Entry{"m": nil}, Uses: []Use{{Name: record.Root, Map: "n"}}}, `. by resolver: map "n" is not there, expected one of "m"`},
		{Atlas{Uses: []Use{{Name: record.Root, Map: "n"}}}, "expected one of none"},
		{Atlas{Maps: map[string][]Entry{"m": nil}, Uses: []Use{{Map: "m"}}}, "name is missing"},
		{Atlas{Maps: map[string][]Entry{"m": nil, "n": nil}, Uses: []Use{{Name: record.Root, Below: true, Map: "m"}, {Name: record.Root, Below: true, Map: "n"}}}, "below . by resolver: two maps"},
	} {
		if _, err := c.atlas.AppendBinary(nil, 0); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v, want %q", c.atlas, err, c.says)
		}
	}
}

// world is a large atlas.
func world(entries int) Atlas {
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[netip.Prefix]bool{}
	a := Atlas{Maps: map[string][]Entry{"m": {}}, Uses: []Use{{Name: record.Root, Below: true, Kind: BySubnet, Map: "m"}, {Name: record.Root, Below: true, Map: "m"}}}
	for len(seen) < entries {
		var b [4]byte
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		p := netip.PrefixFrom(netip.AddrFrom4(b), 12+random.IntN(13)).Masked()
		if !seen[p] {
			seen[p] = true
			a.Maps["m"] = append(a.Maps["m"], Entry{p, record.Location(fmt.Sprint(random.IntN(300)))})
		}
	}
	return a
}

func TestLocateDoesNotAllocate(t *testing.T) {
	c, n := chart(t, world(1000)), name(t, "www.example.net")
	wire, from, subnet := []byte(n), netip.MustParseAddr("192.0.2.1"), netip.MustParsePrefix("198.51.100.0/24")
	if got := testing.AllocsPerRun(100, func() { c.Locate(wire, 3, from, subnet) }); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func BenchmarkLocate(b *testing.B) {
	c, n := chart(b, world(1_000_000)), name(b, "www.example.net")
	wire := []byte(n)
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		x := uint32(i) * 2654435761
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8)}), 24)
		c.Locate(wire, 3, netip.Addr{}, subnet)
	}
}

// FuzzOpen reads octets of anybody: no look-up fails in them.
func FuzzOpen(f *testing.F) {
	a := Atlas{
		Maps: map[string][]Entry{"m": {{netip.MustParsePrefix("192.0.2.0/24"), "a"}, {netip.MustParsePrefix("192.0.2.64/26"), "b"}, {netip.MustParsePrefix("2001:db8::/32"), "c"}}},
		Uses: []Use{{Name: record.Root, Below: true, Map: "m"}, {Name: name(f, "example.net"), Below: true, Kind: BySubnet, Map: "m"}},
	}
	b, err := a.AppendBinary(nil, 3)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, []byte{192, 0, 2, 1}, uint8(32))
	f.Add(b, []byte(strings.Repeat("\x20", 16)), uint8(56))
	f.Add([]byte{}, []byte{}, uint8(0))
	www := []byte(name(f, "www.example.net"))
	f.Fuzz(func(t *testing.T, b, address []byte, bits uint8) {
		c, err := Open(b)
		if err != nil {
			return
		}
		addr, _ := netip.AddrFromSlice(address)
		subnet := netip.PrefixFrom(addr, int(bits)).Masked()
		before := bytes.Clone(b)
		if p := c.Locate(www, 3, addr, subnet); addr.IsValid() && int(p.Scope) > addr.BitLen() {
			t.Fatalf("scope %d of %s", p.Scope, addr)
		}
		if !bytes.Equal(before, b) {
			t.Fatal("the octets were changed")
		}
	})
}
