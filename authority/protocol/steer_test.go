package protocol

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/authority/data"
	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/image/imagetest"
	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/record"
)

// steeredWorld is where the clients of steeredView are.
var steeredWorld = geo.Map{
	Name: "world",
	Entries: []geo.Entry{
		{Prefix: netip.MustParsePrefix("192.0.0.0/16"), Location: "eu"},
		{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Location: "eu-south"},
		{Prefix: netip.MustParsePrefix("192.0.2.128/25"), Location: "us"},
		{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Location: "us"},
		{Prefix: netip.MustParsePrefix("203.0.113.0/24"), Location: "eqsin"}, // a PoP, without an order
		{Prefix: netip.MustParsePrefix("2001:db8::/32"), Location: "eu"},
	},
	Orders: map[record.Location][]record.Location{
		"eu":       {"esams", "drmrs", "eqiad"},
		"eu-south": {"drmrs", "esams", "eqiad"},
		"us":       {"eqiad", "esams"},
	},
	Uses: []geo.Use{{Name: record.Root, Below: true, Kind: geo.BySubnet}, {Name: record.Root, Below: true, Kind: geo.ByResolver}},
}

// steeredRecords are what is answered: text and PoP.
var steeredRecords = [][2]string{
	{"example.net. 300 IN SOA ns.example.net. host.example.net. 1 2 3 4 5", ""},
	{"example.net. 300 IN NS ns.example.org.", ""},
	{"example.net. 300 IN MX 10 www.example.net.", ""},
	{"plain.example.net. 300 IN A 192.0.2.9", ""},
	{"www.example.net. 300 IN A 192.0.2.1", "esams"},
	{"www.example.net. 300 IN A 192.0.2.2", "drmrs"},
	{"www.example.net. 300 IN A 192.0.2.3", "eqiad"},
	{"www.example.net. 300 IN A 192.0.2.4", ""},
	{"www.example.net. 300 IN TXT everybody", ""},
	{"few.example.net. 300 IN A 192.0.2.5", "eqiad"},
	{"alias.example.net. 300 IN CNAME one.example.net.", "esams"},
	{"alias.example.net. 300 IN CNAME two.example.net.", "eqiad"},
	{"one.example.net. 300 IN A 192.0.2.11", ""},
	{"two.example.net. 300 IN A 192.0.2.12", "esams"},
	{"two.example.net. 300 IN A 192.0.2.13", "eqiad"},
	{"*.wild.example.net. 300 IN A 192.0.2.21", "esams"},
	{"*.wild.example.net. 300 IN A 192.0.2.22", "eqiad"},
	{"maps.zonecast.internal. 300 IN SOA ns.example.net. host.example.net. 1 2 3 4 5", ""},
	{"maps.zonecast.internal. 300 IN NS ns.example.org.", ""},
}

func steeredView(t *testing.T, m geo.Map, pops []geo.PoP, more ...record.Set) *data.View {
	t.Helper()
	sets := more
	for _, r := range steeredRecords {
		sets = append(sets, locatedSet(t, r[0], record.Location(r[1])))
	}
	rr, err := m.RRsets(geo.Zone)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pops {
		r, err := p.RRset(geo.Zone)
		if err != nil {
			t.Fatal(err)
		}
		rr = append(rr, r)
	}
	for _, r := range rr {
		sets = append(sets, record.Set{RRset: r})
	}
	im, err := imagetest.Build(filepath.Join(t.TempDir(), "image"), sets, image.Options{NoSync: true, Own: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := im.Check(); err != nil {
		t.Fatal(err)
	}
	v := data.NewDataset(im)
	if err := v.Problem(); err != nil {
		t.Fatal(err)
	}
	return v
}

// steered asks and gives rcode, addresses and texts of the answer, and the scope.
func steered(t interface {
	Helper()
	Fatal(...any)
}, k *Worker, view *data.View, name string, qtype uint16, from, subnet string,
) string {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, qtype)
	if subnet != "" {
		p := netip.MustParsePrefix(subnet)
		family := uint16(2)
		if p.Addr().Is4() {
			family = 1
		}
		q.SetEdns0(1232, false)
		a := p.Addr().AsSlice()
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: family, SourceNetmask: uint8(p.Bits()), Address: a}}
	}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	batch := []Message{{Query: b, Client: netip.AddrPortFrom(netip.MustParseAddr(from), 53)}}
	k.Answer(view, batch, UDP, time.Unix(0, 0))
	m := new(dns.Msg)
	if err := m.Unpack(batch[0].Response); err != nil {
		t.Fatal(err)
	}
	got := dns.RcodeToString[m.Rcode]
	for _, rr := range append(m.Answer, m.Extra...) {
		switch rr := rr.(type) {
		case *dns.A:
			got += " " + strings.TrimPrefix(rr.A.String(), "192.0.2.")
		case *dns.TXT:
			got += " " + rr.Txt[0]
		case *dns.CNAME:
			got += " " + rr.Target[:3]
		}
	}
	if o := m.IsEdns0(); o != nil {
		for _, o := range o.Option {
			if s, ok := o.(*dns.EDNS0_SUBNET); ok {
				got += fmt.Sprintf(" /%d", s.SourceScope)
			}
		}
	}
	return got
}

// TestSteering asks for clients everywhere while PoPs are up, drained and down.
func TestSteering(t *testing.T) {
	const eu, us, nowhere = "192.0.77.1", "198.51.100.1", "100.0.0.1"
	k := NewWorker(Config{})
	for _, state := range []struct {
		down string
		asks [][4]string // name, type and from; subnet; answer
	}{
		{"", [][4]string{
			{"www A", eu, "", "NOERROR 1"},
			{"www A", "::ffff:192.0.77.1", "", "NOERROR 1"},
			{"www A", us, "", "NOERROR 3"},
			{"www A", nowhere, "", "NOERROR 4"},
			{"www A", nowhere, "192.0.77.0/24", "NOERROR 1 /18"},
			{"www A", nowhere, "192.0.2.0/25", "NOERROR 2 /25"},
			{"www A", nowhere, "192.0.2.0/24", "NOERROR 2 /25"}, // too coarse: as a whole it is in the south
			{"www A", nowhere, "192.0.2.128/32", "NOERROR 3 /25"},
			{"www A", nowhere, "192.0.0.0/16", "NOERROR 1 /23"},
			{"www A", nowhere, "203.0.113.0/24", "NOERROR 4 /5"}, // eqsin has nothing here: as everybody, and those around
			{"www A", nowhere, "2001:db8:7::/48", "NOERROR 1 /32"},
			{"www A", nowhere, "::ffff:192.0.2.128/128", "NOERROR 3 /121"},
			{"www A", eu, "10.1.2.0/24", "NOERROR 1 /1"}, // private: as its resolver (RFC 7871 §10), and so is all that is nowhere
			{"www A", eu, "0.0.0.0/0", "NOERROR 1 /0"},   // asks for no answer of its own (§7.1.2)
			{"www TXT", eu, "192.0.2.0/24", "NOERROR everybody /0"},
			{"www AAAA", eu, "192.0.2.0/24", "NOERROR /0"},
			{"plain A", eu, "192.0.2.0/24", "NOERROR 9 /0"},
			{"few A", eu, "", "NOERROR 5"},
			{"few A", nowhere, "", "NOERROR"},                    // there for others: it is no NXDOMAIN
			{"few A", nowhere, "192.0.77.0/24", "NOERROR 5 /16"}, // all of the order's PoPs lead to the one that has it
			{"none A", nowhere, "192.0.77.0/24", "NXDOMAIN /0"},
			{"alias A", eu, "", "NOERROR one 11"},
			{"alias A", us, "", "NOERROR two 13"},
			{"alias A", nowhere, "192.0.2.0/25", "NOERROR one 11 /25"},
			{"alias A", nowhere, "192.0.77.0/24", "NOERROR one 11 /18"},
			{"x.wild A", us, "", "NOERROR 22"},
			{" MX", us, "", "NOERROR 3"}, // the additional addresses, too
			{" MX", nowhere, "198.51.100.0/24", "NOERROR 3 /24"},
		}},
		{"esams", [][4]string{
			{"www A", eu, "", "NOERROR 2"},
			{"www A", nowhere, "192.0.77.0/24", "NOERROR 2 /18"},
			{"www A", nowhere, "192.0.2.0/25", "NOERROR 2 /25"},
			{"www A", nowhere, "192.0.1.0/24", "NOERROR 2 /23"},
			{"alias A", eu, "", "NOERROR two 13"},
			{"alias A", nowhere, "192.0.2.0/24", "NOERROR two 13 /16"}, // both say the same now
			{"x.wild A", eu, "", "NOERROR 22"},
		}},
		{"esams drmrs", [][4]string{
			{"www A", eu, "", "NOERROR 3"},
			{"www A", nowhere, "192.0.2.0/24", "NOERROR 3 /16"},
		}},
		{"esams drmrs eqiad", [][4]string{
			{"www A", eu, "", "NOERROR 1"}, // the last resort: as if all were up
			{"www A", nowhere, "192.0.2.0/25", "NOERROR 2 /25"},
			{"few A", eu, "", "NOERROR 5"},
		}},
	} {
		var pops []geo.PoP
		for i, p := range strings.Fields(state.down) {
			pops = append(pops, geo.PoP{Name: p, State: geo.State(1 + i%2)})
		}
		view := steeredView(t, steeredWorld, pops)
		for _, c := range state.asks {
			name, qtype, _ := strings.Cut(c[0], " ")
			owner := strings.TrimPrefix(name+".example.net.", ".")
			if got := steered(t, k, view, owner, dns.StringToType[qtype], c[1], c[2]); got != c[3] {
				t.Errorf("without %q: %s from %s for %q: %s, want %s", state.down, c[0], c[1], c[2], got, c[3])
			}
		}
	}
	if got := k.Counters.LastResort.Load(); got != 3 {
		t.Errorf("%d answers of the last resort, want 3", got)
	}
}

// TestScopesOfAnswers draws maps of a small space, PoPs and states, and asks for names that
// take several choices: within the scope everybody gets the same octets, and in no shorter
// one.
func TestScopesOfAnswers(t *testing.T) {
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		m := geo.Map{Name: "world", Orders: steeredWorld.Orders, Uses: steeredWorld.Uses}
		seen := map[netip.Prefix]bool{}
		for range rapid.IntRange(0, 8).Draw(t, "entries") {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(rapid.IntRange(0, 15).Draw(t, "at") * 16)}), rapid.IntRange(23, 28).Draw(t, "bits")).Masked()
			if !seen[p] {
				seen[p] = true
				m.Entries = append(m.Entries, geo.Entry{Prefix: p, Location: rapid.SampledFrom([]record.Location{"", "eu", "eu-south", "us", "esams", "eqsin"}).Draw(t, "location")})
			}
		}
		var pops []geo.PoP
		for _, p := range []string{"esams", "drmrs", "eqiad"} {
			pops = append(pops, geo.PoP{Name: p, State: geo.State(rapid.IntRange(0, 2).Draw(t, "state"))})
		}
		view, k := steeredView(outer, m, pops), NewWorker(Config{})
		name := rapid.SampledFrom([]string{"www.example.net.", "few.example.net.", "alias.example.net.", "a.wild.example.net."}).Draw(t, "name")
		cut := func(answer string) (what string, scope int) {
			i := strings.LastIndex(answer, " /")
			fmt.Sscanf(answer[i:], " /%d", &scope)
			return answer[:i], scope
		}
		answers := make([]string, 256)
		for i := range answers {
			answers[i], _ = cut(steered(t, k, view, name, dns.TypeA, "100.0.0.1", fmt.Sprintf("192.0.2.%d/32", i)))
		}
		uniform := func(p netip.Prefix, want string) bool {
			for i := range answers {
				if p.Contains(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})) && answers[i] != want {
					return false
				}
			}
			return true
		}
		for i := 0; i < 256; i += 8 {
			for _, length := range []int{32, 28, 25, 24} {
				subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), length).Masked()
				got, scope := cut(steered(t, k, view, name, dns.TypeA, "100.0.0.1", subnet.String()))
				first := answers[subnet.Addr().As4()[3]]
				if scope <= length && got != first {
					t.Fatalf("%s: %q with scope %d, its first address gets %q", subnet, got, scope, first)
				}
				p := netip.PrefixFrom(subnet.Addr(), scope).Masked()
				if !uniform(p, first) {
					t.Fatalf("%s: scope %d has several answers", subnet, scope)
				}
				if p := netip.PrefixFrom(p.Addr(), max(scope-1, 0)).Masked(); scope > 24 && uniform(p, first) {
					t.Fatalf("%s: scope %d, and all of %s get one answer", subnet, scope, p)
				}
			}
		}
	})
}

// TestOwnTypesAreNotAnswered asks for what a map is made of.
func TestOwnTypesAreNotAnswered(t *testing.T) {
	terms, _, err := record.TermsRRset(record.Set{RRset: locatedSet(t, "plain.example.net. 300 IN A 192.0.2.9", "").RRset, Choose: 1})
	if err != nil {
		t.Fatal(err)
	}
	view, k := steeredView(t, steeredWorld, []geo.PoP{{Name: "esams"}}, record.Set{RRset: terms}), NewWorker(Config{})
	names := []string{"plain.example.net."}
	rr, _ := steeredWorld.RRsets(geo.Zone)
	for _, r := range rr {
		names = append(names, r.Owner.String())
	}
	names = append(names, "esams.pops.maps.zonecast.internal.")
	for _, name := range names {
		for _, qtype := range []uint16{dns.TypeANY, 65300, 65301, 65302, 65303, 65304, 65304} {
			for _, transport := range []Transport{UDP, TCP} {
				q, _ := new(dns.Msg).SetQuestion(name, qtype).Pack()
				m := new(dns.Msg)
				if err := m.Unpack(k.Respond(view, q, transport, time.Unix(0, 0), nil)); err != nil {
					t.Fatal(err)
				}
				for _, rr := range slices.Concat(m.Answer, m.Ns, m.Extra) {
					if record.Type(rr.Header().Rrtype).IsOwn() {
						t.Errorf("%s %s is answered with %s", name, dns.TypeToString[qtype], rr)
					}
				}
				if m.Rcode != dns.RcodeSuccess {
					t.Errorf("%s %d: %s, want NOERROR without data", name, qtype, dns.RcodeToString[m.Rcode])
				}
			}
		}
	}
}

// TestTermsOfADataset: at most as many records as the terms say, by their weights; and all
// of them again when the terms go.
func TestTermsOfADataset(t *testing.T) {
	owner := record.Name("\x04many\x07example\x03net\x00")
	set := record.Set{RRset: record.NewRRset(owner, record.TypeA, 300, "\xc0\x00\x02\x01", "\xc0\x00\x02\x02", "\xc0\x00\x02\x03"), Choose: 1}
	for _, w := range []uint32{1, 3, 0} {
		set.Terms = append(set.Terms, record.Terms{TTL: 300, Weight: w})
	}
	terms, _, err := record.TermsRRset(set)
	if err != nil {
		t.Fatal(err)
	}
	view := steeredView(t, steeredWorld, nil, record.Set{RRset: set.RRset}, record.Set{RRset: terms})
	count := func(view *data.View) (n [4]int, answers int) {
		k := NewWorker(Config{Seed: 7})
		for range 400 {
			f := strings.Fields(steered(t, k, view, "many.example.net.", dns.TypeA, "192.0.2.1", ""))
			answers += len(f) - 1
			for _, a := range f[1:] {
				n[a[0]-'0']++
			}
		}
		return n, answers
	}
	n, answers := count(view)
	if answers != 400 || n[3] != 0 || n[2] < 2*n[1] || n[2] > 4*n[1] {
		t.Errorf("400 answers have %d records, %v by address, want one each, the second three times as often as the first, the third never", answers, n)
	}
	serial := func(record.Name) (uint32, bool) { return 1, true }
	without, err := view.Apply(nil, []record.Key{terms.Key}, serial)
	if err != nil {
		t.Fatal(err)
	}
	if _, answers = count(without); answers != 1200 {
		t.Errorf("without terms 400 answers have %d records, want 1200", answers)
	}
	again, err := without.Apply([]record.Set{{RRset: terms}}, nil, serial)
	if err != nil {
		t.Fatal(err)
	}
	if _, answers = count(again); answers != 400 {
		t.Errorf("with terms again 400 answers have %d records, want 400", answers)
	}
	if r, ok := again.RRset(set.Key); !ok || !r.Equal(set.RRset) {
		t.Errorf("the RRset is %v, want %v", r, set.RRset)
	}
}

func TestSteeringDoesNotAllocate(t *testing.T) {
	view, k := steeredView(t, steeredWorld, []geo.PoP{{Name: "esams", State: geo.Down}}), NewWorker(Config{})
	q := new(dns.Msg).SetQuestion("alias.example.net.", dns.TypeA)
	q.SetEdns0(1232, false)
	q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{192, 0, 2, 0}}}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	batch := []Message{{Query: b, Client: netip.MustParseAddrPort("100.0.0.1:53")}}
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(200, func() {
		batch[0].Response = buf
		k.Answer(view, batch, UDP, time.Unix(0, 0))
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// TestLongSubnets: a subnet that is longer than its addresses is malformed (RFC 7871 §6, §7.1).
func TestLongSubnets(t *testing.T) {
	view, k := steeredView(t, steeredWorld, nil), NewWorker(Config{})
	for _, c := range []struct {
		family, source uint16
		octets         int
		want           int
	}{{1, 33, 5, dns.RcodeFormatError}, {2, 129, 17, dns.RcodeFormatError}, {1, 24, 4, dns.RcodeFormatError}, {1, 24, 3, dns.RcodeSuccess}, {2, 128, 16, dns.RcodeSuccess}} {
		q := new(dns.Msg).SetQuestion("www.example.net.", dns.TypeA)
		q.SetEdns0(1232, false)
		o := []byte{byte(c.family >> 8), byte(c.family), byte(c.source), 0}
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: dns.EDNS0SUBNET, Data: append(o, make([]byte, c.octets)...)}}
		b, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		m := new(dns.Msg)
		if err := m.Unpack(k.Respond(view, b, UDP, time.Unix(0, 0), nil)); err != nil || m.Rcode != c.want {
			t.Errorf("family %d, source %d, %d octets: %v %s, want %s", c.family, c.source, c.octets, err, dns.RcodeToString[m.Rcode], dns.RcodeToString[c.want])
		}
	}
}
