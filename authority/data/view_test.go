package data

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/authority/image"
	"github.com/zonecast/zonecast/authority/image/imagetest"
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
func set(owner string, t record.Type) record.Set {
	rd := record.Rdata(name("target.example.org"))
	if t == record.TypeSOA {
		b := []byte("\x01m\x00\x01r\x00")
		for _, v := range []uint32{100, 1, 2, 3, 60} {
			b = binary.BigEndian.AppendUint32(b, v)
		}
		rd = record.Rdata(b)
	}
	return record.Set{RRset: record.NewRRset(name(owner), t, 300, rd)}
}

func asClaimed(record.Name) (uint32, bool) { return 0, false }

type fataler interface{ Fatal(...any) }

// build makes a View that is all image. Test images share a seed.
func build(t fataler, dir string, sets []record.Set, serial Serials) *View {
	im, err := imagetest.Build(filepath.Join(dir, "image"), sets, image.Options{Seed: 4711, Serial: serial, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := im.Check(); err != nil {
		t.Fatal(err)
	}
	return New(im)
}

// describe writes a View down completely but for what a fold may change, so that two
// can be compared.
func describe(v *View) map[string]string {
	out := map[string]string{"": fmt.Sprint(v.Zones(), " zones ", v.Sets(), " sets ")}
	for n := range v.Nodes {
		text := fmt.Sprint(n.Children(), " children, traits ", n.Traits()&^image.Settled, " ")
		if n.Traits()&image.Apex != 0 {
			text += fmt.Sprint("negative ", n.NegativeTTL(), " ")
		}
		for _, b := range n.Bodies(nil) {
			text += fmt.Sprintf("%s %x ", b.Type, []byte(b.Set))
		}
		out[record.Name(n.Name()).String()] = text
	}
	return out
}

// TestApplyAgainstBuild applies random changes and compares each View with one built
// from scratch of the same RRsets and serials, also through folds at random moments
// while changes go on; serials change as a dataset's do: those of the zones that a
// changed name is in, before or after.
func TestApplyAgainstBuild(t *testing.T) {
	owners := []string{
		".", "net", "example.net", "a.example.net", "b.a.example.net", "c.b.a.example.net", "*.a.example.net",
		"sub.example.net", "x.sub.example.net", "y.x.sub.example.net", "example.org", "deep.er.example.org",
	}
	types := []record.Type{record.TypeA, record.TypeNS, record.TypeSOA, record.TypeDNAME, record.TypeTXT}
	dir := t.TempDir()
	scratch := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		model := map[record.Key]record.Set{}
		stamps := map[record.Name]uint32{}
		apexOf := func(n record.Name) record.Name {
			for ; n != ""; n = n.Parent() {
				for _, location := range []record.Location{"", "lab"} {
					if _, ok := model[record.Key{Owner: n, Type: record.TypeSOA, Location: location}]; ok {
						return n
					}
				}
			}
			return ""
		}
		serial := func(apex record.Name) (uint32, bool) { s, ok := stamps[apex]; return s, ok }
		v := build(t, dir, nil, serial)
		type version struct {
			v, fresh *View
		}
		var versions []version
		var since []record.Name
		var folded *image.Image // a fold that is not taken over yet
		for number := range uint32(rapid.IntRange(1, 15).Draw(t, "versions")) {
			var put []record.Set
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
					r.TTL = number
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
				stamps[apex] = 1000 + number
			}
			before := v
			var err error
			if v, err = v.Apply(put, remove, serial); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 3).Draw(t, "twice") == 0 { // the View before can be changed once more
				if v, err = before.Apply(put, remove, serial); err != nil {
					t.Fatal(err)
				}
			}
			since = append(since, v.Last()...)
			switch rapid.IntRange(0, 5).Draw(t, "fold") {
			case 0:
				path := filepath.Join(dir, "fold")
				if err := v.Fold(path, image.Label{}, nil, nil); err != nil {
					t.Fatal(err)
				}
				if folded, err = image.Open(path); err != nil {
					t.Fatal(err)
				}
				since = nil
				a, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(build(t, scratch, slices.Collect(maps.Values(model)), serial).Image().Path())
				if err != nil || !bytes.Equal(a, b) {
					t.Fatalf("a fold has other octets than a build: %v", err)
				}
				if _, err := folded.Check(); err != nil {
					t.Fatal(err)
				}
			case 1:
				if folded != nil {
					if v, err = v.Rebase(folded, since); err != nil {
						t.Fatal(err)
					}
					folded, since = nil, nil
				}
			}
			want := map[record.Key]record.Set{}
			for k, s := range model { // the SOA as it is answered
				s.Data = slices.Clone(s.Data)
				want[k] = s
			}
			fresh := build(t, scratch, slices.Collect(maps.Values(want)), serial)
			versions = append(versions, version{v, fresh})
			sameAnswers(t, v, fresh)
		}
		for i, x := range versions {
			if diff := cmp.Diff(describe(x.fresh), describe(x.v)); diff != "" {
				t.Fatalf("version %d (-from scratch +applied):\n%s", i, diff)
			}
			sameAnswers(t, x.v, x.fresh)
		}
	})
}

// sameAnswers asks both Views for names around those of the test.
func sameAnswers(t *rapid.T, a, b *View) {
	var qa, qb Query
	for _, n := range []string{
		".", "net", "example.net", "a.example.net", "z.a.example.net", "y.z.a.example.net", "c.b.a.example.net", "z.c.b.a.example.net",
		"sub.example.net", "q.y.x.sub.example.net", "example.org", "er.example.org", "no.er.example.org", "com", "no.such.name.com",
	} {
		for _, atParent := range []bool{false, true} {
			qa.Set(a.Hasher(), []byte(name(n)))
			qb.Set(b.Hasher(), []byte(name(n)))
			if x, y := result(a.Find(&qa, atParent)), result(b.Find(&qb, atParent)); x != y {
				t.Fatalf("%s (atParent %v) is %s applied and %s from scratch", n, atParent, x, y)
			}
			if s := a.Plain(&qa, record.TypeA); s != nil {
				if r := b.Find(&qb, false); r.Node == nil || r.Wildcard || string(r.Node.Set(record.TypeA)) != string(s) {
					t.Fatalf("%s has a plain answer that Find does not give", n)
				}
			}
		}
	}
}

// result writes a Result down: the zone, then what is set.
func result(r Result) string {
	if r.Damaged {
		return "damaged"
	}
	got := "outside"
	if r.Zone != nil {
		got = record.Name(r.Zone.Name()).String()
	}
	for what, n := range map[string]image.Node{"node": r.Node, "cut": r.Cut, "dname": r.DName} {
		if n != nil {
			if r.Wildcard {
				what = "wildcard"
			}
			got += " " + what + " " + record.Name(n.Name()).String()
		}
	}
	return got
}

func TestFind(t *testing.T) {
	long := "1.0.0.2.ip6.arpa"
	for range 20 {
		long = "a." + long
	}
	v := build(t, t.TempDir(), []record.Set{
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
	}, asClaimed)
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
		q.Set(v.Hasher(), []byte(name(tt.name)))
		got := result(v.Find(&q, tt.atParent))
		if got != tt.want {
			t.Errorf("Find(%s, atParent %v) = %s, want %s", tt.name, tt.atParent, got, tt.want)
		}
	}
}

// probes counts how many names a look-up asks for, at most.
func TestLongNamesAreCheap(t *testing.T) {
	v := build(t, t.TempDir(), []record.Set{set("example.net", record.TypeSOA), set("www.example.net", record.TypeA)}, asClaimed)
	long := "example.net"
	for len(long) < 245 {
		long = "a." + long
	}
	var q Query
	q.Set(v.Hasher(), []byte(name(long)))
	f := finder{v: v, q: &q}
	i, n := f.encloser()
	if got := record.Name(n.Name()); got != name("example.net") || q.labels-i != 2 {
		t.Errorf("the closest encloser of a name of %d labels is %s", q.labels, got)
	}
	if f.asked > 8 {
		t.Errorf("%d names were looked up for one of %d labels, want at most 8", f.asked, q.labels)
	}
}

func TestLocatedSets(t *testing.T) {
	lab := set("www.example.net", record.TypeA)
	lab.Location = "lab"
	only := set("only.example.net", record.TypeA)
	only.Location = "lab"
	soa := set("lab.example.net", record.TypeSOA)
	soa.Location = "lab"
	v := build(t, t.TempDir(), []record.Set{lab, only, soa, set("www.example.net", record.TypeA), set("example.net", record.TypeSOA), set("*.example.net", record.TypeTXT)}, asClaimed)
	if v.Zones() != 2 || v.Sets() != 6 {
		t.Errorf("%d zones and %d sets, want 2 and 6", v.Zones(), v.Sets())
	}
	var q Query
	for _, tt := range []struct{ location, want string }{
		{"", "example.net. wildcard *.example.net."}, {"lab", "example.net. node only.example.net."}, {"other", "example.net. wildcard *.example.net."},
	} {
		q.Set(v.Hasher(), []byte(name("only.example.net")))
		q.Location = []byte(tt.location)
		if got := result(v.Find(&q, false)); got != tt.want {
			t.Errorf("from location %q the name is %s, want %s", tt.location, got, tt.want)
		}
	}
	q.Set(v.Hasher(), []byte(name("www.example.net")))
	if s := v.Plain(&q, record.TypeA); s != nil {
		t.Error("a name with RRsets by location has a plain answer")
	}
}

func TestZoneSOA(t *testing.T) {
	broken := record.Set{RRset: record.NewRRset(name("broken.example.net"), record.TypeSOA, 300, "\x01m\x00 too short")}
	high := set("high.example.net", record.TypeSOA)
	high.TTL = 20
	v := build(t, t.TempDir(), []record.Set{set("example.net", record.TypeSOA), broken, high},
		func(apex record.Name) (uint32, bool) { return 4711, apex == name("example.net") })
	var q Query
	for _, tt := range []struct {
		apex   string
		serial uint32
		ttl    uint32
	}{{"example.net", 4711, 60}, {"high.example.net", 100, 20}} {
		q.Set(v.Hasher(), []byte(name(tt.apex)))
		z := v.Find(&q, false).Zone
		rd := z.Set(record.TypeSOA).RRset(name(tt.apex)).Data[0]
		if serial := binary.BigEndian.Uint32([]byte(rd[len(rd)-20:])); serial != tt.serial || z.NegativeTTL() != tt.ttl {
			t.Errorf("%s: serial %d, negative TTL %d, want %d and %d", tt.apex, serial, z.NegativeTTL(), tt.serial, tt.ttl)
		}
	}
	if z := v.Get([]byte(name("broken.example.net"))); z.Set(record.TypeSOA).RRset(name("broken.example.net")).Data[0] != broken.Data[0] {
		t.Error("SOA that is none was changed")
	}
}

func TestReadLowers(t *testing.T) {
	h := image.NewHasher(1)
	rapid.Check(t, func(t *rapid.T) {
		var wire []byte
		for _, l := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 63), 0, 5).Draw(t, "labels") {
			wire = append(append(wire, byte(len(l))), l...)
		}
		wire = append(wire, 0)
		var q Query
		n := q.Read(&h, append(wire[:len(wire):len(wire)], rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "behind")...))
		want, used, err := record.NameFromWire(wire)
		if err != nil {
			if n != 0 {
				t.Fatalf("%q is read, %v", wire, err)
			}
			return
		}
		if n != used || string(q.Name()) != string(want) || q.Hash() != h.Name([]byte(want)) {
			t.Fatalf("%q is read as %q (%d octets), want %q", wire, q.Name(), n, want)
		}
	})
}

// big gives n RRsets in zones of a thousand names.
func big(n int) []record.Set {
	var out []record.Set
	for i := range n {
		zone := fmt.Sprintf("zone%d.example.net", i/1000)
		if i%1000 == 0 {
			out = append(out, set(zone, record.TypeSOA))
		}
		out = append(out, set(fmt.Sprintf("host%d.%s", i, zone), record.TypeA))
	}
	return out
}

// BenchmarkApplyOne changes one RRset of 500,000.
func BenchmarkApplyOne(b *testing.B) {
	first := build(b, b.TempDir(), big(500_000), asClaimed)
	put := []record.Set{set("host250000.zone250.example.net", record.TypeA)}
	v := first
	b.ReportAllocs()
	for b.Loop() {
		v, _ = v.Apply(put, nil, asClaimed)
	}
}

// BenchmarkApplyHundred changes 100 RRsets of 500,000, as the next 100 do.
func BenchmarkApplyHundred(b *testing.B) {
	first := build(b, b.TempDir(), big(500_000), asClaimed)
	v, at := first, 0
	var put []record.Set
	for i := range 500_000 {
		put = append(put, set(fmt.Sprintf("host%d.zone%d.example.net", i, i/1000), record.TypeA))
	}
	b.ReportAllocs()
	for b.Loop() {
		if at += 100; at > 100_000 {
			v, at = first, 100
		}
		v, _ = v.Apply(put[at-100:at], nil, asClaimed)
	}
}

func BenchmarkFold500k(b *testing.B) {
	v := build(b, b.TempDir(), big(500_000), asClaimed)
	for b.Loop() {
		if err := v.Fold(filepath.Join(b.TempDir(), "fold"), image.Label{}, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	v := build(b, b.TempDir(), big(500_000), asClaimed)
	var q Query
	for _, bb := range []struct{ what, name string }{
		{"hit", "host250000.zone250.example.net"}, {"miss", "nohost.zone250.example.net"}, {"outside", "www.example.org"},
	} {
		b.Run(bb.what, func(b *testing.B) {
			n := []byte(name(bb.name))
			b.ReportAllocs()
			for b.Loop() {
				q.Read(v.Hasher(), n)
				v.Find(&q, false)
			}
		})
	}
}

// BenchmarkFindChanged asks for names that changed since the image was built, and for
// others among them, in an order that no cache foresees.
func BenchmarkFindChanged(b *testing.B) {
	v := build(b, b.TempDir(), big(500_000), asClaimed)
	if err := v.Image().Scrub(nil); err != nil {
		b.Fatal(err)
	}
	var names [][]byte
	for i := range 100_000 {
		at := i * 7919 % 500_000
		names = append(names, []byte(name(fmt.Sprintf("host%d.zone%d.example.net", at, at/1000))))
	}
	unchanged := v
	for i := 0; i < 50_000; i += 100 {
		var put []record.Set
		for _, n := range names[i : i+100] {
			put = append(put, set(record.Name(n).String(), record.TypeA))
		}
		var err error
		if v, err = v.Apply(put, nil, asClaimed); err != nil {
			b.Fatal(err)
		}
	}
	for _, bb := range []struct {
		what  string
		v     *View
		names [][]byte
	}{{"no changes", unchanged, names[:50_000]}, {"changed", v, names[:50_000]}, {"unchanged", v, names[50_000:]}} {
		b.Run(bb.what, func(b *testing.B) {
			var q Query
			b.ReportAllocs()
			at := 0
			for b.Loop() {
				q.Read(bb.v.Hasher(), bb.names[at])
				bb.v.Look(&q)
				bb.v.LookNode(&q)
				if bb.v.Plain(&q, record.TypeA) == nil && bb.v.Find(&q, false).Node == nil {
					b.Fatal("no answer")
				}
				if at++; at == len(bb.names) {
					at = 0
				}
			}
		})
	}
}
