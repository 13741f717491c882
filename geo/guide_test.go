package geo

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/record"
)

func guide(t interface {
	Helper()
	Fatal(...any)
}, maps []Map, pops ...PoP,
) *Guide {
	t.Helper()
	var all []record.RRset
	for i := range maps {
		all = append(all, rrsetsOf(t, maps[i])...)
	}
	for _, p := range pops {
		r, err := p.RRset(Zone)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	g, err := (*Guide)(nil).Apply(all, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// everywhere is a map's use for all names, by subnet and by resolver.
var everywhere = []Use{{Name: record.Root, Below: true, Kind: BySubnet}, {Name: record.Root, Below: true, Kind: ByResolver}}

// answer is what the PoP of an order is that answers when has have the RRset: the first that
// is up, else the first; "" is none.
func answer(g *Guide, order []uint16, has string) string {
	last := ""
	for _, n := range order {
		name, up := g.PoP(n)
		if !strings.Contains(has, name) {
			continue
		}
		if up {
			return name
		}
		if last == "" {
			last = name
		}
	}
	return last
}

// privateNetworks say nothing of where a client is, unless an entry within them does.
var privateNetworks = []string{
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", // RFC 1918
	"100.64.0.0/10",          // RFC 6598
	"127.0.0.0/8", "::1/128", // loopback
	"169.254.0.0/16", "fe80::/10", // link-local
	"fc00::/7", // RFC 4193
}

// model is a map and the states of PoPs, looked up as the documents say.
type model struct {
	entries  []Entry
	orders   map[record.Location][]record.Location
	state    map[string]State
	has      string
	resolver record.Location
}

// at is the location of the longest prefix around all of p.
func (m *model) at(p netip.Prefix) (found record.Location) {
	least := 0
	for _, text := range privateNetworks {
		if n := netip.MustParsePrefix(text); n.Bits() <= p.Bits() && n.Contains(p.Addr()) {
			least = n.Bits()
		}
	}
	best := -1
	for _, e := range m.entries {
		if e.Prefix.Bits() >= least && e.Prefix.Bits() <= p.Bits() && e.Prefix.Contains(p.Addr()) && e.Prefix.Bits() > best {
			best, found = e.Prefix.Bits(), e.Location
		}
	}
	return found
}

func (m *model) answer(l record.Location) string {
	if l == "" {
		l = m.resolver
	}
	if l == "" {
		return ""
	}
	order := m.orders[l]
	if order == nil {
		order = []record.Location{l}
	}
	last := ""
	for _, p := range order {
		switch {
		case !strings.Contains(m.has, string(p)):
		case m.state[string(p)] == Up:
			return string(p)
		case last == "":
			last = string(p)
		}
	}
	return last
}

// TestScopes compares every address of a small space, at several lengths of its subnet and in
// all states that are drawn, with what the documents say: the answer, that all addresses of
// the scope get the same answer, and that no shorter scope would do.
func TestScopes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := netip.MustParseAddr(rapid.SampledFrom([]string{"0.0.0.0", "192.0.2.0", "10.1.2.0", "255.255.255.0", "192.168.0.0", "::", "2001:db8::", "fd00::", "2001:db8:0:1::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00"}).Draw(t, "base"))
		width := base.BitLen()
		at := func(i int) netip.Addr {
			b := base.AsSlice()
			b[len(b)-1] = byte(i)
			a, _ := netip.AddrFromSlice(b)
			return a
		}
		places := []record.Location{"", "a", "b", "c", "d", "e"}
		m := model{orders: map[record.Location][]record.Location{}, state: map[string]State{}}
		seen := map[netip.Prefix]bool{}
		for range rapid.IntRange(0, 14).Draw(t, "entries") {
			bits := rapid.OneOf(rapid.IntRange(width-8, width), rapid.IntRange(0, width)).Draw(t, "bits")
			p := netip.PrefixFrom(at(rapid.IntRange(0, 255).Draw(t, "at")), bits).Masked()
			if !seen[p] {
				seen[p] = true
				m.entries = append(m.entries, Entry{p, rapid.SampledFrom(places).Draw(t, "location")})
			}
		}
		for _, l := range places[1:] {
			if rapid.Bool().Draw(t, "ordered") {
				perm := rapid.Permutation(places[1:5]).Draw(t, "order")
				m.orders[l] = slices.Clone(perm[:rapid.IntRange(1, 4).Draw(t, "pops")])
			}
		}
		m.has = rapid.SampledFrom([]string{"", "a", "ab", "acd", "abcde"}).Draw(t, "has")
		m.resolver = rapid.SampledFrom(places).Draw(t, "resolver")
		world := Map{Name: "world", Entries: m.entries, Orders: m.orders, Uses: everywhere[:1]}
		resolvers := Map{Name: "resolvers", Entries: []Entry{{netip.MustParsePrefix("203.0.113.0/24"), m.resolver}}, Orders: m.orders, Uses: everywhere[1:]}
		var pops []PoP
		for _, p := range "abcde" {
			s := State(rapid.IntRange(0, 2).Draw(t, "state"))
			m.state[string(p)] = s
			pops = append(pops, PoP{string(p), s})
		}
		g := guide(t, []Map{world, resolvers}, pops...)

		// What lies outside the last octet is told by the prefixes' edges: one address of each
		// part of the space that no edge divides.
		var probes []netip.Addr
		for i := range 256 {
			probes = append(probes, at(i))
		}
		edge := func(p netip.Prefix) {
			probes = append(probes, p.Addr())
			for b := range p.Bits() { // right beside each prefix around it
				n := numberOf(p.Addr()).Mask(b + 1)
				if b < 64 {
					n.Hi ^= 1 << (63 - b)
				} else {
					n.Lo ^= 1 << (127 - b)
				}
				probes = append(probes, n.Addr(width))
			}
		}
		for _, e := range m.entries {
			edge(e.Prefix)
		}
		for _, p := range privateNetworks {
			if q := netip.MustParsePrefix(p); q.Addr().BitLen() == width {
				edge(q)
			}
		}
		whole := func(a netip.Addr) string { return m.answer(m.at(netip.PrefixFrom(a, width))) }
		answers := make([]string, len(probes))
		for i, a := range probes {
			answers[i] = whole(a)
		}
		uniform := func(p netip.Prefix, want string) bool {
			for i, a := range probes {
				if p.Contains(a) && answers[i] != want {
					return false
				}
			}
			return true
		}
		for i := 0; i < 256; i++ {
			if i > 16 && i%5 != 0 {
				continue
			}
			for _, length := range []int{width, width - 1, width - 4, width - 8, width - 12, 9, 1} {
				subnet := netip.PrefixFrom(at(i), length).Masked()
				c := g.Locate([]byte(record.Root), 0, netip.MustParseAddr("203.0.113.7"), subnet)
				got := answer(g, c.Order(), m.has)
				scope := c.Scope(func(order []uint16) bool { return answer(g, order, m.has) == got })
				if scope > length {
					c.Widen()
					got = answer(g, c.Order(), m.has)
					if want := m.answer(m.at(subnet)); got != want {
						t.Fatalf("%s, too coarse for scope %d: %q, want %q", subnet, scope, got, want)
					}
					got = whole(subnet.Addr())
				} else if want := whole(subnet.Addr()); got != want {
					t.Fatalf("%s: %q, want %q", subnet, got, want)
				}
				if p := netip.PrefixFrom(subnet.Addr(), scope).Masked(); !uniform(p, got) {
					t.Fatalf("%s: scope %d has several answers", subnet, scope)
				}
				if scope == 0 {
					continue
				}
				if p := netip.PrefixFrom(subnet.Addr(), scope-1).Masked(); uniform(p, got) {
					t.Fatalf("%s: scope %d, but %s has one answer", subnet, scope, p)
				}
			}
		}
	})
}

// TestGuideFollows changes a map step by step: each Guide made of the one before answers as
// one made at once, and those before answer as they did.
func TestGuideFollows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMap(t, "world")
		m.Uses = everywhere
		now, before := guide(t, []Map{m}), map[record.Key]record.RRset{}
		for _, r := range rrsetsOf(t, m) {
			before[r.Key] = r
		}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			other := drawMap(t, "world")
			next := Map{Name: m.Name, Entries: slices.Clone(m.Entries), Orders: m.Orders, Uses: everywhere}
			have := map[netip.Prefix]bool{}
			for _, e := range next.Entries {
				have[e.Prefix] = true
			}
			for _, e := range other.Entries[:min(len(other.Entries), rapid.IntRange(0, 200).Draw(t, "more"))] {
				if !have[e.Prefix] {
					next.Entries = append(next.Entries, e)
				}
			}
			if n := len(next.Entries); n > 0 {
				from := rapid.IntRange(0, n-1).Draw(t, "from")
				next.Entries = slices.Delete(next.Entries, from, min(n, from+rapid.IntRange(0, 150).Draw(t, "fewer")))
			}
			if rapid.Bool().Draw(t, "reorder") {
				next.Orders = other.Orders
			}
			var put []record.RRset
			var remove []record.Key
			after := map[record.Key]record.RRset{}
			for _, r := range rrsetsOf(t, next) {
				after[r.Key] = r
				if !r.Equal(before[r.Key]) {
					put = append(put, r)
				}
			}
			for k := range before {
				if _, ok := after[k]; !ok {
					remove = append(remove, k)
				}
			}
			old, was := now, dump(now)
			var err error
			if now, err = now.Apply(put, remove); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(dump(guide(t, []Map{next})), dump(now)); diff != "" {
				t.Fatalf("ranges (-at once +step by step):\n%s", diff)
			}
			if diff := cmp.Diff(was, dump(old)); diff != "" {
				t.Fatalf("the Guide before changed:\n%s", diff)
			}
			m, before = next, after
		}
	})
}

// dump is what the ranges of a Guide say.
func dump(g *Guide) (all []string) {
	for _, c := range g.charts {
		for f, t := range c.tables {
			if t == nil {
				continue
			}
			for i := range t.len() {
				s := c.spots[t.value(i)]
				text := fmt.Sprintf("%s %d %x %q", c.name, f, t.start(i), s.name)
				for _, n := range s.order {
					text += " " + g.pops.name[n]
				}
				if t.find(t.start(i)) != i {
					text += " is not found"
				}
				all = append(all, text)
			}
		}
	}
	return all
}

// TestGuideKeeps gives a Guide what is damaged: what was there stays, and it says what is wrong.
func TestGuideKeeps(t *testing.T) {
	m := Map{Name: "world", Entries: []Entry{{netip.MustParsePrefix("192.0.2.0/24"), "north"}}, Orders: map[record.Location][]record.Location{"north": {"a", "b"}}, Uses: everywhere}
	g := guide(t, []Map{m}, PoP{"a", Up})
	want := dump(g)
	var bad []record.RRset
	for _, r := range append(rrsetsOf(t, m), func() record.RRset { r, _ := PoP{"a", Up}.RRset(Zone); return r }()) {
		r.Data = append(slices.Clone(r.Data), "\xff\xff")
		bad = append(bad, r)
	}
	now, err := g.Apply(bad, nil)
	if err == nil {
		t.Fatal("damage is taken without an error")
	}
	for _, r := range bad {
		if !strings.Contains(err.Error(), r.Owner.String()) {
			t.Errorf("the error does not name %s: %v", r.Owner, err)
		}
	}
	if diff := cmp.Diff(want, dump(now)); diff != "" {
		t.Errorf("damaged RRsets (-before +after):\n%s", diff)
	}
	if c := now.Locate([]byte(record.Root), 0, netip.Addr{}, netip.MustParsePrefix("192.0.2.0/24")); answer(now, c.Order(), "ab") != "a" {
		t.Errorf("the client is answered by %q, want a", answer(now, c.Order(), "ab"))
	}
	all := rrsetsOf(t, m)
	keys := make([]record.Key, len(all))
	for i, r := range all {
		keys[i] = r.Key
	}
	if now, err := g.Apply(nil, keys); err != nil || !now.Empty() || len(now.charts) != 0 {
		t.Errorf("all of it removed: %v, %v", dump(now), err)
	}
}

// TestOverlappingBlocks is a map whose blocks overlap, as no RRsets makes it: the innermost
// block counts, whichever came first.
func TestOverlappingBlocks(t *testing.T) {
	block := func(label string, e ...Entry) record.RRset {
		data := make([]record.Rdata, len(e))
		for i := range e {
			data[i] = e[i].rdata()
		}
		return record.NewRRset(name(t, label+".v4.world.maps.zonecast.internal"), record.TypeMapBlock, 60, data...)
	}
	p := netip.MustParsePrefix
	outer := block("0", Entry{p("192.0.2.0/24"), "outer"}, Entry{p("192.0.2.128/25"), "outer"}, Entry{p("198.51.100.0/24"), "outer"})
	inner := block("8-c0", Entry{p("192.0.2.0/24"), "inner"}, Entry{p("192.0.2.0/28"), "inmost"})
	uses := rrsetsOf(t, Map{Name: "world", Uses: everywhere})
	a, err := (*Guide)(nil).Apply(append([]record.RRset{outer, inner}, uses...), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := (*Guide)(nil).Apply(append([]record.RRset{inner}, uses...), nil)
	if b, err = b.Apply([]record.RRset{outer}, nil); err != nil {
		t.Fatal(err)
	}
	o, _ := (*Guide)(nil).Apply(append([]record.RRset{outer}, uses...), nil)
	if o, err = o.Apply([]record.RRset{inner}, nil); err != nil {
		t.Fatal(err)
	}
	for what, g := range map[string]*Guide{"inner": b, "outer": o} {
		if diff := cmp.Diff(dump(a), dump(g)); diff != "" {
			t.Errorf("order of blocks matters (-together +%s first):\n%s", what, diff)
		}
	}
	for addr, want := range map[string]string{"192.0.2.1": "inmost", "192.0.2.77": "inner", "192.0.2.200": "outer", "198.51.100.1": "outer", "203.0.113.1": ""} {
		c := a.Locate([]byte(record.Root), 0, netip.MustParseAddr(addr), netip.Prefix{})
		if got := answer(a, c.Order(), "outer inner inmost"); got != want {
			t.Errorf("%s is answered by %q, want %q", addr, got, want)
		}
	}
}

func TestGuideUses(t *testing.T) {
	entries := func(l record.Location) []Entry {
		return []Entry{{netip.MustParsePrefix("192.0.2.0/24"), l}, {netip.MustParsePrefix("10.0.0.0/8"), l}, {netip.MustParsePrefix("0.0.0.0/0"), "x" + l}}
	}
	g := guide(t, []Map{
		{Name: "a", Entries: entries("a"), Uses: []Use{{Name: record.Root, Below: true}, {Name: name(t, "www.example.net"), Kind: BySubnet}}},
		{Name: "b", Entries: entries("b")[:1], Uses: []Use{{Name: name(t, "www.example.net")}, {Name: record.Root, Below: true}}},
		{Name: "c", Entries: entries("c"), Uses: []Use{{Name: name(t, "example.net"), Below: true}, {Name: record.Root, Kind: BySubnet, Below: true}}},
	})
	for _, q := range []struct{ name, resolver, subnet, want string }{
		{"www.example.net", "192.0.2.1", "", "b"},
		{"www.example.net", "::ffff:192.0.2.1", "", "b"},
		{"a.www.example.net", "192.0.2.1", "", "c"},
		{"example.net", "192.0.2.1", "", "a"}, // of a and b, which both have the root, a
		{"www.example.net", "192.0.2.1", "192.0.2.0/24", "a"},
		{"www.example.net", "203.0.113.1", "::ffff:192.0.2.0/120", "a"},
		{"www.example.net", "203.0.113.1", "192.0.2.0/0", ""}, // source 0: not asked for
		{"example.org", "203.0.113.1", "192.0.2.0/24", "c"},
		{"example.org", "203.0.113.1", "2001:db8::/56", "xa"},  // no IPv6 in it: by resolver
		{"example.org", "203.0.113.1", "10.1.2.0/24", "c"},     // private, and somebody says where
		{"example.org", "203.0.113.1", "192.168.1.0/24", "xa"}, // private: by resolver (RFC 7871 §10)
		{"example.net", "192.168.1.1", "", "xa"},               // a resolver at hand is where everybody is
		{"www.example.net", "198.51.100.1", "198.51.100.0/24", "xa"},
		{"www.example.net", "", "", ""},
	} {
		var r netip.Addr
		var s netip.Prefix
		if q.resolver != "" {
			r = netip.MustParseAddr(q.resolver)
		}
		if q.subnet != "" {
			s = netip.MustParsePrefix(q.subnet)
		}
		n := name(t, q.name)
		c := g.Locate([]byte(n), n.Labels(), r, s)
		got := ""
		if len(c.Order()) > 0 {
			got, _ = g.PoP(c.Order()[0])
		}
		if got != q.want {
			t.Errorf("%s from %s for %s: %q, want %q", q.name, q.resolver, q.subnet, got, q.want)
		}
		// What people are told is the same.
		told := ""
		for _, f := range g.Explain(n, r, s) {
			if len(f.Order) > 0 && told == "" {
				told = f.Order[0].Name
			}
		}
		if told != got {
			t.Errorf("%s from %s for %s: explained as %q, answered by %q", q.name, q.resolver, q.subnet, told, got)
		}
	}
	scope := func(subnet string) int {
		n := name(t, "example.org")
		c := g.Locate([]byte(n), n.Labels(), netip.MustParseAddr("203.0.113.1"), netip.MustParsePrefix(subnet))
		got := answer(g, c.Order(), "xc c xa a")
		return c.Scope(func(o []uint16) bool { return answer(g, o, "xc c xa a") == got })
	}
	for subnet, want := range map[string]int{"192.168.1.0/24": 16, "192.0.2.0/24": 24, "::ffff:192.0.2.0/120": 120, "::ffff:192.168.0.0/112": 112, "2001:db8::/32": 0} {
		if got := scope(subnet); got != want {
			t.Errorf("scope of %s is %d, want %d", subnet, got, want)
		}
	}
	if !(*Guide)(nil).Empty() || !new(Guide).Empty() || g.Empty() {
		t.Error("what is empty is told wrong")
	}
	var none Client
	if none.Order() != nil || none.Scope(func([]uint16) bool { return true }) != 0 || none.Widen() {
		t.Error("the zero Client is somewhere")
	}
}

// bigMap is a map of many prefixes, as world, with orders.
func bigMap(entries int) Map {
	m := Map{Name: "world", Entries: world(entries).Maps["m"], Orders: map[record.Location][]record.Location{}, Uses: everywhere}
	for i := range 300 {
		l := record.Location(fmt.Sprint(i))
		for k := range 4 {
			m.Orders[l] = append(m.Orders[l], record.Location(fmt.Sprintf("pop%d", (i+k*5)%14)))
		}
	}
	return m
}

func TestGuideDoesNotAllocate(t *testing.T) {
	g, n := guide(t, []Map{bigMap(1000)}), name(t, "www.example.net")
	wire, from, subnet := []byte(n), netip.MustParseAddr("192.0.2.1"), netip.MustParsePrefix("198.51.100.0/24")
	count := 0
	if got := testing.AllocsPerRun(100, func() {
		c := g.Locate(wire, 3, from, subnet)
		first := c.Order()
		c.Scope(func(o []uint16) bool { count++; return len(o) == len(first) })
		c.Widen()
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

// TestScopeIsBounded asks for a scope in a map whose prefixes all have one answer: it is
// looked for no longer than is said.
func TestScopeIsBounded(t *testing.T) {
	g, n := guide(t, []Map{bigMap(20_000)}), name(t, "www.example.net")
	c := g.Locate([]byte(n), 3, netip.Addr{}, netip.MustParsePrefix("198.51.100.0/24"))
	asked := 0
	began := time.Now()
	scope := c.Scope(func([]uint16) bool { asked++; return true })
	if asked > mostWalk || scope == 0 {
		t.Errorf("%d locations asked, scope %d", asked, scope)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("took %s", took)
	}
}

func benchGuide(b *testing.B) *Guide {
	g := guide(b, []Map{bigMap(1_000_000)})
	b.ReportMetric(float64(g.Ranges()), "ranges")
	return g
}

// addresses are pseudo-random, so that caches do not know them.
func addresses() []netip.Addr {
	random := rand.New(rand.NewPCG(5, 6))
	all := make([]netip.Addr, 1<<16)
	for i := range all {
		x := random.Uint32()
		all[i] = netip.AddrFrom4([4]byte{byte(x >> 24), byte(x >> 16), byte(x >> 8), byte(x)})
	}
	return all
}

func BenchmarkGuideBuild(b *testing.B) {
	rr := rrsetsOf(b, bigMap(1_000_000))
	for b.Loop() {
		if _, err := (*Guide)(nil).Apply(rr, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGuideBlock(b *testing.B) {
	m := bigMap(1_000_000)
	rr := rrsetsOf(b, m)
	g, err := (*Guide)(nil).Apply(rr, nil)
	if err != nil {
		b.Fatal(err)
	}
	var blocks []record.RRset
	for _, r := range rr {
		if r.Type == record.TypeMapBlock && len(r.Data) > 1 {
			blocks = append(blocks, r)
		}
	}
	for i := 0; b.Loop(); i++ {
		r := blocks[i*7919%len(blocks)]
		r.Data = slices.Delete(slices.Clone(r.Data), 0, 1)
		if _, err := g.Apply([]record.RRset{r}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGuideDrain(b *testing.B) {
	g := benchGuide(b)
	for i := 0; b.Loop(); i++ {
		r, err := PoP{"pop3", State(i % 2)}.RRset(Zone)
		if err != nil {
			b.Fatal(err)
		}
		if g, err = g.Apply([]record.RRset{r}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGuideLocate(b *testing.B) {
	g, all, n := benchGuide(b), addresses(), name(b, "www.example.net")
	wire := []byte(n)
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		c := g.Locate(wire, 3, netip.Addr{}, netip.PrefixFrom(all[i&(len(all)-1)], 32))
		_ = c
	}
}

func BenchmarkGuideScope(b *testing.B) {
	g, all, n := benchGuide(b), addresses(), name(b, "www.example.net")
	wire := []byte(n)
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		c := g.Locate(wire, 3, netip.Addr{}, netip.PrefixFrom(all[i&(len(all)-1)], 32))
		first := c.Order()[:min(len(c.Order()), 1)]
		c.Scope(func(o []uint16) bool { return len(o) > 0 && len(first) > 0 && o[0] == first[0] })
	}
}

// TestMoves: what is cut otherwise, or called otherwise, has not moved; what has another order
// has, whichever way it came.
func TestMoves(t *testing.T) {
	p := netip.MustParsePrefix
	m := Map{Name: "world", Orders: map[record.Location][]record.Location{"eu": {"esams", "drmrs"}, "us": {"eqiad"}}, Uses: everywhere}
	for i := range 100 {
		m.Entries = append(m.Entries, Entry{netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i)}), 24), "eu"})
	}
	m.Entries = append(m.Entries, Entry{p("2001:db8::/32"), "us"})
	for _, c := range []struct {
		what   string
		change func(m *Map)
		moved  int
	}{
		{"nothing", func(m *Map) {}, 0},
		{"two are one", func(m *Map) { m.Entries = append(m.Entries[2:], Entry{p("198.18.0.0/23"), "eu"}) }, 0},
		{"one is two", func(m *Map) {
			m.Entries = append(m.Entries, Entry{p("198.18.1.0/25"), "eu"}, Entry{p("198.18.1.128/25"), "eu"})
		}, 0},
		{"another name", func(m *Map) {
			m.Entries[3].Location = "north"
			m.Orders["north"] = m.Orders["eu"]
		}, 0},
		{"thirty move", func(m *Map) {
			for i := range 30 {
				m.Entries[i].Location = "us"
			}
		}, 30},
		{"a part moves", func(m *Map) { m.Entries = append(m.Entries, Entry{p("198.18.7.0/26"), "us"}) }, 2}, // and the whole begins with it
		{"one goes", func(m *Map) { m.Entries = m.Entries[1:] }, 1},
		{"an order", func(m *Map) { m.Orders["eu"] = []record.Location{"drmrs", "esams"} }, 100},
		{"all goes", func(m *Map) { m.Entries = nil }, 101},
		{"no uses", func(m *Map) { m.Uses = nil }, 101},
		{"other uses", func(m *Map) { m.Uses = m.Uses[:1] }, 0},
	} {
		next := Map{Name: m.Name, Entries: slices.Clone(m.Entries), Orders: cloneMap(m.Orders), Uses: m.Uses}
		c.change(&next)
		old, put := rrsetsOf(t, m), rrsetsOf(t, next)
		before := guide(t, []Map{m})
		var keys []record.Key
		for _, r := range old {
			keys = append(keys, r.Key)
		}
		after, err := before.Apply(put, keys)
		if err != nil {
			t.Fatal(err)
		}
		moves := before.Moves(after)
		if len(moves) != 1 || moves[0].Prefixes != c.moved || moves[0].Of != 101 || len(moves[0].Examples) != min(c.moved, maxMoveExamples) {
			t.Errorf("%s: %+v, want %d of 101 prefixes", c.what, moves, c.moved)
		}
		if fresh := (*Guide)(nil).Moves(after); len(fresh) != 0 {
			t.Errorf("%s: a new map moves %+v", c.what, fresh)
		}
	}
}

// TestMovesOfNested: a prefix that others lie in moves when its own addresses do, wherever the
// others lie in it; and one of IPv6 is not one of IPv4 with the same bits.
func TestMovesOfNested(t *testing.T) {
	p := netip.MustParsePrefix
	many := []Entry{{p("20.0.0.0/8"), "eu"}} // in a block by itself
	for i := range 600 {
		many = append(many, Entry{netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(i >> 8), byte(i)}), 24), "us"})
	}
	for _, c := range []struct {
		what    string
		entries []Entry
		to      map[netip.Prefix]record.Location
		want    string // examples
	}{
		{"the whole", []Entry{{p("198.16.0.0/12"), "eu"}, {p("198.16.0.0/16"), "us"}}, map[netip.Prefix]record.Location{p("198.16.0.0/12"): "us"}, "198.16.0.0/12 eu → us"},
		{"the part", []Entry{{p("198.16.0.0/12"), "eu"}, {p("198.16.0.0/16"), "us"}}, map[netip.Prefix]record.Location{p("198.16.0.0/16"): "as"}, "198.16.0.0/16 us → as"},
		{"the whole of many blocks", many, map[netip.Prefix]record.Location{p("20.0.0.0/8"): "us"}, "20.0.0.0/8 eu → us"},
		{"nobody's", []Entry{{p("192.0.2.0/24"), "eu"}, {p("192.0.2.0/25"), "us"}, {p("192.0.2.128/25"), "us"}}, map[netip.Prefix]record.Location{p("192.0.2.0/24"): "us"}, ""},
		{"the last addresses", []Entry{{p("0.0.0.0/0"), "eu"}, {p("0.0.0.0/1"), "us"}, {p("128.0.0.0/1"), "us"}}, map[netip.Prefix]record.Location{p("0.0.0.0/0"): "us"}, ""},
		{"both families", []Entry{{p("0.0.0.0/0"), "eu"}, {p("::/0"), "eu"}}, map[netip.Prefix]record.Location{p("0.0.0.0/0"): "us", p("::/0"): "us"}, "0.0.0.0/0 eu → us, ::/0 eu → us"},
	} {
		next := slices.Clone(c.entries)
		for i, e := range next {
			if l, ok := c.to[e.Prefix]; ok {
				next[i].Location = l
			}
		}
		moves := guide(t, []Map{{Name: "world", Entries: c.entries}}).Moves(guide(t, []Map{{Name: "world", Entries: next}}))
		if got := strings.Join(moves[0].Examples, ", "); got != c.want {
			t.Errorf("%s: %d moved: %s, want %s", c.what, moves[0].Prefixes, got, c.want)
		}
	}
}

// TestNamesThatGo gives all locations other names again and again: those that nobody uses any
// more are forgotten, and clients are where they were.
func TestNamesThatGo(t *testing.T) {
	const entries = 16_000
	m := Map{Name: "world", Uses: everywhere}
	for i := range entries {
		m.Entries = append(m.Entries, Entry{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 8), byte(i)}), 24)})
	}
	var g *Guide
	for round := range 6 {
		for i := range m.Entries {
			m.Entries[i].Location = record.Location(fmt.Sprintf("%d-%d", round, i))
		}
		var err error
		if g, err = g.Apply(rrsetsOf(t, m), nil); err != nil {
			t.Fatal(err)
		}
		if n := len(g.pops.name); n > maxSpots {
			t.Errorf("round %d: %d PoPs", round, n)
		}
		if n := len(g.charts[0].spots); n > spareSpots+entries+1 {
			t.Errorf("round %d: %d locations are kept, expected at most %d", round, n, spareSpots+entries+1)
		}
		for _, i := range []int{0, 7777, entries - 1} {
			c := g.Locate([]byte(record.Root), 0, netip.Addr{}, m.Entries[i].Prefix)
			if got := answer(g, c.Order(), string(m.Entries[i].Location)); got != string(m.Entries[i].Location) {
				t.Errorf("round %d: %s is at %q, want %q", round, m.Entries[i].Prefix, got, m.Entries[i].Location)
			}
		}
	}
}
