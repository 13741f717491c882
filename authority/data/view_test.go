package data

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/record"
)

func name(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err)
	}
	return n
}

// set makes an RRset; SOA gets valid RDATA with serial 100 and MINIMUM 60.
func set(owner string, t record.Type) record.RRset {
	rd := record.Rdata(name("target.example.org"))
	if t == record.TypeSOA {
		b := []byte("\x01m\x00\x01r\x00")
		for _, v := range []uint32{100, 1, 2, 3, 60} {
			b = binary.BigEndian.AppendUint32(b, v)
		}
		rd = record.Rdata(b)
	}
	return record.NewRRset(name(owner), t, 300, rd)
}

func serialOf(z *Zone) uint32 {
	rd := z.SOA.Data[0]
	return binary.BigEndian.Uint32([]byte(rd[len(rd)-20:]))
}

func asClaimed(record.Name) (uint32, bool) { return 0, false }

// describe writes a View down completely, so that two can be compared.
func describe(v *View) map[string]string {
	out := map[string]string{"": fmt.Sprint(v.Zones(), " zones ", v.Sets(), " sets ")}
	for n := range v.Nodes {
		text := fmt.Sprint(n.children, " children, traits ", n.traits, " ")
		for _, s := range n.sets {
			text += fmt.Sprint(s.Key, s.TTL, s.Data)
		}
		if n.zone != nil {
			text += fmt.Sprint(" zone ", n.zone.Apex, n.zone.NegativeTTL, " serial ", serialOf(n.zone))
		}
		out[n.Name.String()] = text
	}
	return out
}

// TestApplyAgainstNew applies random changes and compares each View with one made
// from scratch of the same RRsets and serials; serials change as a dataset's do:
// those of the zones that a changed name is in, before or after.
func TestApplyAgainstNew(t *testing.T) {
	owners := []string{
		".", "net", "example.net", "a.example.net", "b.a.example.net", "c.b.a.example.net", "*.a.example.net",
		"sub.example.net", "x.sub.example.net", "y.x.sub.example.net", "example.org", "deep.er.example.org",
	}
	types := []record.Type{record.TypeA, record.TypeNS, record.TypeSOA, record.TypeDNAME, record.TypeTXT}
	rapid.Check(t, func(t *rapid.T) {
		model := map[record.Key]record.RRset{}
		stamps := map[record.Name]uint32{}
		apexOf := func(n record.Name) record.Name {
			for ; n != ""; n = n.Parent() {
				if _, ok := model[record.Key{Owner: n, Type: record.TypeSOA}]; ok {
					return n
				}
			}
			return ""
		}
		serial := func(apex record.Name) (uint32, bool) { s, ok := stamps[apex]; return s, ok }
		v := New(maps.Values(model), serial)
		type version struct {
			v    *View
			want map[string]string
		}
		var versions []version
		for version64 := range uint32(rapid.IntRange(1, 25).Draw(t, "versions")) {
			var put []record.RRset
			var remove []record.Key
			changed := map[record.Key]bool{}
			touched := map[record.Name]bool{}
			touch := func(k record.Key) {
				touched[apexOf(k.Owner)] = true
				if k.Type == record.TypeSOA || k.Type == record.TypeNS {
					touched[apexOf(k.Owner.Parent())] = true
				}
			}
			for range rapid.IntRange(1, 4).Draw(t, "changes") {
				r := set(rapid.SampledFrom(owners).Draw(t, "owner"), rapid.SampledFrom(types).Draw(t, "type"))
				if rapid.IntRange(0, 9).Draw(t, "located") == 0 {
					r.Location = "lab"
				}
				if changed[r.Key] {
					continue // a delta names a key once
				}
				changed[r.Key] = true
				touch(r.Key)
				if rapid.Bool().Draw(t, "put") {
					r.TTL = version64
					put = append(put, r)
				} else {
					remove = append(remove, r.Key)
				}
			}
			for _, k := range remove {
				delete(model, k)
			}
			for _, r := range put {
				model[r.Key] = r
			}
			for k := range changed {
				touch(k)
			}
			for apex := range touched {
				stamps[apex] = 1000 + version64
			}
			v = v.Apply(put, remove, serial)
			versions = append(versions, version{v, describe(New(maps.Values(model), serial))})
			if len(model) == 0 && v.names.Len() != 0 {
				t.Fatalf("%d names are left of nothing", v.names.Len())
			}
		}
		for i, x := range versions {
			if diff := cmp.Diff(x.want, describe(x.v)); diff != "" {
				t.Fatalf("version %d (-from scratch +applied):\n%s", i, diff)
			}
		}
	})
}

func TestFind(t *testing.T) {
	long := "1.0.0.2.ip6.arpa"
	for range 20 {
		long = "a." + long
	}
	v := New(slices.Values([]record.RRset{
		set("example.net", record.TypeSOA), set("example.net", record.TypeNS),
		set("www.example.net", record.TypeA),
		set("deep.ent.example.net", record.TypeA),
		set("*.wild.example.net", record.TypeA), set("host.wild.example.net", record.TypeA),
		set("below.*.odd.example.net", record.TypeA),
		set("cut.example.net", record.TypeNS), set("ns.cut.example.net", record.TypeA), set("x.cut.example.net", record.TypeNS),
		set("dn.example.net", record.TypeDNAME), set("y.dn.example.net", record.TypeNS),
		set("both.example.net", record.TypeDNAME), set("both.example.net", record.TypeNS),
		set("child.example.net", record.TypeSOA), set("child.example.net", record.TypeNS), set("*.child.example.net", record.TypeDNAME),
		set("kid.under.cut.example.net", record.TypeSOA),
		set("*.zonewild.example.net", record.TypeSOA),
		set("1.0.0.2.ip6.arpa", record.TypeSOA), set(long, record.TypePTR),
	}), asClaimed)
	tests := []struct {
		name     string
		atParent bool
		want     string // zone, then what is set
	}{
		{"example.net", false, "example.net. node example.net."},
		{"example.net", true, "example.net. node example.net."}, // no zone above is here
		{"www.example.net", false, "example.net. node www.example.net."},
		{"ent.example.net", false, "example.net. node ent.example.net."},
		{"no.ent.example.net", false, "example.net."},
		{"a.b.www.example.net", false, "example.net."},
		{"x.wild.example.net", false, "example.net. wildcard *.wild.example.net."},
		{"y.x.wild.example.net", false, "example.net. wildcard *.wild.example.net."},
		{"*.wild.example.net", false, "example.net. node *.wild.example.net."},
		{"x.*.wild.example.net", false, "example.net."}, // RFC 4592 §2.2.1: the wildcard is the encloser
		{"x.host.wild.example.net", false, "example.net."},
		{"x.odd.example.net", false, "example.net. wildcard *.odd.example.net."}, // an empty non-terminal
		{"cut.example.net", false, "example.net. cut cut.example.net."},
		{"cut.example.net", true, "example.net. node cut.example.net."},
		{"ns.cut.example.net", false, "example.net. cut cut.example.net."},
		{"ns.cut.example.net", true, "example.net. cut cut.example.net."},
		{"a.x.cut.example.net", false, "example.net. cut cut.example.net."}, // the topmost
		{"x.cut.example.net", true, "example.net. cut cut.example.net."},
		{"dn.example.net", false, "example.net. node dn.example.net."},
		{"a.b.dn.example.net", false, "example.net. dname dn.example.net."},
		{"y.dn.example.net", false, "example.net. dname dn.example.net."},
		{"both.example.net", false, "example.net. cut both.example.net."},
		{"a.both.example.net", false, "example.net. cut both.example.net."},
		{"child.example.net", false, "child.example.net. node child.example.net."},
		{"child.example.net", true, "example.net. node child.example.net."},
		{"a.child.example.net", true, "child.example.net. wildcard *.child.example.net."},
		{"a.child.example.net", false, "child.example.net. wildcard *.child.example.net."},
		{"kid.under.cut.example.net", false, "kid.under.cut.example.net. node kid.under.cut.example.net."},
		{"kid.under.cut.example.net", true, "example.net. cut cut.example.net."},
		{"a.zonewild.example.net", false, "example.net."},
		{"net", false, "outside"},
		{".", false, "outside"},
		{".", true, "outside"},
		{"example.org", false, "outside"},
		{"xexample.net", false, "outside"},
		{"b." + long, false, "1.0.0.2.ip6.arpa."},
		{long, false, "1.0.0.2.ip6.arpa. node " + long + "."},
	}
	var q Query
	for _, tt := range tests {
		r := v.Find(&q, []byte(name(tt.name)), tt.atParent)
		got := "outside"
		if r.Zone != nil {
			got = r.Zone.Apex.String()
		}
		for what, n := range map[string]*Node{"node": r.Node, "cut": r.Cut, "dname": r.DNAME} {
			if n != nil {
				if r.Wildcard {
					what = "wildcard"
				}
				got += " " + what + " " + n.Name.String()
			}
		}
		if got != tt.want {
			t.Errorf("Find(%s, atParent %v) = %s, want %s", tt.name, tt.atParent, got, tt.want)
		}
		if g := v.Get([]byte(name(tt.name))); (g == nil) != (v.names.Get(q.hash[0], q.suffix(0)) == nil) {
			t.Errorf("Get(%s) = %v disagrees with Find", tt.name, g)
		}
	}
}

func TestLocatedSetsAreKeptNotAnswered(t *testing.T) {
	lab := set("www.example.net", record.TypeA)
	lab.Location = "lab"
	lab.TTL = 1
	soa := set("lab.example.net", record.TypeSOA)
	soa.Location = "lab"
	v := New(slices.Values([]record.RRset{lab, soa, set("www.example.net", record.TypeA), set("example.net", record.TypeSOA)}), asClaimed)
	if got := v.Get([]byte(name("www.example.net"))).Set(record.TypeA).TTL; got != 300 {
		t.Errorf("the answered A has TTL %d, want 300 (the one without a location)", got)
	}
	if v.Zones() != 1 || v.Sets() != 4 {
		t.Errorf("%d zones and %d sets, want 1 and 4", v.Zones(), v.Sets())
	}
	v = v.Apply(nil, []record.Key{{Owner: name("www.example.net"), Type: record.TypeA}}, asClaimed)
	if got := v.Get([]byte(name("www.example.net"))).Set(record.TypeA); got != nil {
		t.Errorf("without the default RRset the answer is %v, want none", got)
	}
}

func TestZoneSOA(t *testing.T) {
	broken := record.NewRRset(name("broken.example.net"), record.TypeSOA, 300, "\x01m\x00 too short")
	high := set("high.example.net", record.TypeSOA)
	high.TTL = 20
	v := New(slices.Values([]record.RRset{set("example.net", record.TypeSOA), broken, high}),
		func(apex record.Name) (uint32, bool) { return 4711, apex == name("example.net") })
	var q Query
	for _, tt := range []struct {
		apex   string
		serial uint32
		ttl    uint32
	}{{"example.net", 4711, 60}, {"high.example.net", 100, 20}} {
		z := v.Find(&q, []byte(name(tt.apex)), false).Zone
		if serialOf(z) != tt.serial || z.NegativeTTL != tt.ttl {
			t.Errorf("%s: serial %d, negative TTL %d, want %d and %d", tt.apex, serialOf(z), z.NegativeTTL, tt.serial, tt.ttl)
		}
	}
	if z := v.Find(&q, []byte(name("broken.example.net")), false).Zone; z.SOA.Data[0] != broken.Data[0] {
		t.Errorf("SOA that is none was changed to %q", z.SOA.Data[0])
	}
}

// big gives n RRsets in zones of a thousand names.
func big(n int) func(func(record.RRset) bool) {
	return func(yield func(record.RRset) bool) {
		for i := range n {
			zone := fmt.Sprintf("zone%d.example.net", i/1000)
			if i%1000 == 0 && !yield(set(zone, record.TypeSOA)) {
				return
			}
			if !yield(set(fmt.Sprintf("host%d.%s", i, zone), record.TypeA)) {
				return
			}
		}
	}
}

func BenchmarkNew500k(b *testing.B) {
	all := slices.Collect(big(500_000))
	for b.Loop() {
		New(slices.Values(all), asClaimed)
	}
}

// BenchmarkApplyOne changes one RRset of 500,000.
func BenchmarkApplyOne(b *testing.B) {
	v := New(big(500_000), asClaimed)
	put := []record.RRset{set("host250000.zone250.example.net", record.TypeA)}
	b.ReportAllocs()
	for b.Loop() {
		v = v.Apply(put, nil, asClaimed)
	}
}

func BenchmarkFind(b *testing.B) {
	v := New(big(500_000), asClaimed)
	var q Query
	for _, bb := range []struct{ what, name string }{
		{"hit", "host250000.zone250.example.net"}, {"miss", "nohost.zone250.example.net"}, {"outside", "www.example.org"},
	} {
		b.Run(bb.what, func(b *testing.B) {
			n := []byte(name(bb.name))
			b.ReportAllocs()
			for b.Loop() {
				v.Find(&q, n, false)
			}
		})
	}
}
