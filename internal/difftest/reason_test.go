package difftest

import (
	"slices"
	"testing"
	"testing/fstest"

	"github.com/zonecast/zonecast/record"
)

// TestReasons holds for each rule that it explains what it is for, and that it does
// not explain what is only alike.
func TestReasons(t *testing.T) {
	zones, err := LoadZones(fstest.MapFS{"example.net": {Data: []byte(`@ 60 SOA a b 1 2 3 4 5
@ 60 NS ns
cut 60 NS ns.cut
cut 60 DS 1 13 2 ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB
ns.cut 60 A 192.0.2.1
ns.cut 60 A 192.0.2.2
a 60 CNAME b
b 60 CNAME a
c 60 CNAME a
both 60 A 192.0.2.1
both 60 TXT x
*.wd 60 DNAME both
`)}})
	if err != nil {
		t.Fatal(err)
	}
	data := index(zones)
	set := func(owner string, typ record.Type) (rrs []rr) {
		s := data.sets[record.Key{Owner: name(owner), Type: typ}]
		for _, d := range s.Data {
			rrs = append(rrs, rr{owner: s.Owner, t: typ, ttl: s.TTL, rdata: d})
		}
		return rrs
	}
	join := slices.Concat[[]rr]
	ns, ds, glue := set("cut.example.net", record.TypeNS), set("cut.example.net", record.TypeDS), set("ns.cut.example.net", record.TypeA)
	a, b, c := set("a.example.net", record.TypeCNAME), set("b.example.net", record.TypeCNAME), set("c.example.net", record.TypeCNAME)
	addr, text := set("both.example.net", record.TypeA), set("both.example.net", record.TypeTXT)
	dname := set("*.wd.example.net", record.TypeDNAME)
	moved := slices.Clone(dname)
	moved[0].owner = name("x.*.wd.example.net")
	other := slices.Clone(addr)
	other[0].rdata = "\xc0\x00\x02\x09"
	for _, x := range []struct {
		what, kind, asked string
		typ               record.Type
		via               Via
		ours, theirs      response
		want              string
	}{
		{"DS left out", "authority", "x.cut", record.TypeA, UDP1232DO, response{authority: join(ns, ds)}, response{authority: ns}, "ds-referral"},
		{"DS left out, and not asked for", "authority", "x.cut", record.TypeA, UDP1232, response{authority: join(ns, ds)}, response{authority: ns}, ""},
		{"NS left out, too", "authority", "x.cut", record.TypeA, UDP1232DO, response{authority: join(ns, ds)}, response{}, ""},
		{"glue left out", "tc", "x.cut", record.TypeA, UDP512, response{authority: ns, tc: true}, response{authority: ns, additional: glue[:1]}, "glue"},
		{"all glue there", "tc", "x.cut", record.TypeA, UDP512, response{authority: ns, tc: true}, response{authority: ns, additional: glue}, ""},
		{"circle", "rcode", "c", record.TypeA, UDP512, response{rcode: 2, answer: join(c, a, b)}, response{answer: join(c, a)}, "circle"},
		{"circle, and something else", "rcode", "c", record.TypeA, UDP512, response{rcode: 2, answer: join(c, a, b, addr)}, response{answer: join(c, a)}, ""},
		{"SERVFAIL without a circle", "rcode", "c", record.TypeA, UDP512, response{rcode: 2, answer: c}, response{answer: c}, ""},
		{"chain cut short", "answer", "c", record.TypeA, UDP512, response{answer: join(c, a, addr)}, response{answer: c}, "chain-end"},
		{"another chain", "answer", "c", record.TypeA, UDP512, response{answer: join(c, a)}, response{answer: addr}, ""},
		{"ANY, another RRset", "answer", "both", record.TypeANY, UDP512, response{answer: addr}, response{answer: text}, "any"},
		{"ANY, another record", "answer", "both", record.TypeANY, UDP512, response{answer: addr}, response{answer: other}, ""},
		{"ANY, one over TCP", "answer", "both", record.TypeANY, TCP, response{answer: join(addr, text)}, response{answer: text}, "any-tcp"},
		{"ANY, theirs all over TCP", "answer", "both", record.TypeANY, TCP, response{answer: text}, response{answer: join(addr, text)}, ""},
		{"DNAME under the name asked for", "answer", "q.x.*.wd", record.TypeA, UDP512, response{answer: dname}, response{answer: moved}, "wildcard-dname"},
		{"another DNAME", "answer", "q.x.*.wd", record.TypeA, UDP512, response{answer: addr}, response{answer: moved}, ""},
		{"rcode after TC", "rcode", "both", record.TypeA, UDP512, response{tc: true}, response{tc: true, rcode: 3}, "truncated"},
		{"answer after TC", "answer", "both", record.TypeA, UDP512, response{tc: true}, response{tc: true, answer: addr}, ""},
	} {
		q := Question{Name: name(x.asked + ".example.net"), Type: x.typ, Via: x.via}
		cmp := compared{data: data, q: q, ours: &x.ours, theirs: &x.theirs, first: &x.theirs}
		us, err := newClient(scripted(t, func(q []byte, _ bool) []byte { return echo(q, 0, "") }))
		if err != nil {
			t.Fatal(err)
		}
		defer us.close()
		cmp.us, cmp.peer = us, us
		got := cmp.reasons(t.Context(), Difference{Question: q, Kind: x.kind})
		if x.want == "" && len(got) > 0 || x.want != "" && !slices.Contains(got, x.want) {
			t.Errorf("%s: explained by %q, expected %q", x.what, got, x.want)
		}
	}
}
