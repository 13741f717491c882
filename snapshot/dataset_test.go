package snapshot

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
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

// soa is the RDATA of a SOA with this serial.
func soa(serial byte) record.Rdata {
	return record.Rdata("\x02ns\x00\x04host\x00\x00\x00\x00" + string(serial) + "\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\x04")
}

func rrset(t testing.TB, owner string, typ record.Type, data ...record.Rdata) record.RRset {
	t.Helper()
	return record.NewRRset(name(t, owner), typ, 300, data...)
}

// change applies the delta that makes this change.
func change(t testing.TB, d *Dataset, put []record.RRset, remove ...record.Key) *Delta {
	t.Helper()
	delta, err := d.Change(int64(1000*d.Version()+1000), put, remove)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Apply(delta); err != nil {
		t.Fatal(err)
	}
	return delta
}

// drawSets draws RRsets of a few names, so that sequences meet again: apexes and
// names below them, locations, freshness records.
func drawSets(t *rapid.T, label string) []record.RRset {
	var sets []record.RRset
	seen := map[record.Key]bool{}
	for range rapid.IntRange(0, 8).Draw(t, label) {
		owner := rapid.SampledFrom([]string{".", "net", "example.net", "a.example.net", "w.a.example.net", "*.example.net", "_fresh.a.example.net", "b.example.org"}).Draw(t, "owner")
		typ := rapid.SampledFrom([]record.Type{record.TypeSOA, record.TypeNS, record.TypeTXT, record.TypeA, 65280}).Draw(t, "type")
		n, err := record.ParseName(owner)
		if err != nil {
			t.Fatal(err)
		}
		var data []record.Rdata
		for range rapid.IntRange(1, 3).Draw(t, "records") {
			d := record.Rdata(rapid.SliceOfN(rapid.Byte(), 0, 6).Draw(t, "data"))
			if typ == record.TypeSOA {
				d = soa(rapid.Byte().Draw(t, "serial"))
			}
			data = append(data, d)
		}
		r := record.NewRRset(n, typ, uint32(rapid.IntRange(0, 3).Draw(t, "ttl")), data...)
		r.Location = record.Location(rapid.SampledFrom([]string{"", "eu", "us"}).Draw(t, "location"))
		if !seen[r.Key] {
			seen[r.Key] = true
			sets = append(sets, r)
		}
	}
	return sets
}

// model is a dataset told plainly: a map, and zones found by looking at all of it.
type model struct {
	sets    map[record.Key]record.RRset
	stamps  map[record.Name]uint64
	content uint64
}

func (m model) apexes() map[record.Name]bool {
	out := map[record.Name]bool{}
	for k := range m.sets {
		if k.Type == record.TypeSOA {
			out[k.Owner] = true
		}
	}
	return out
}

// view is what a zone serves: its own RRsets, the NS and DS of the zones right
// below it, and where they begin.
func (m model) view(apex record.Name) map[string]record.RRset {
	apexes := m.apexes()
	zoneOf := func(n record.Name) record.Name {
		for ; n != ""; n = n.Parent() {
			if apexes[n] {
				return n
			}
		}
		return ""
	}
	out := map[string]record.RRset{}
	for k, r := range m.sets {
		if !IsFreshness(k) && zoneOf(k.Owner) == apex {
			out[string(k.AppendBinary(nil))] = r
		}
		if apexes[k.Owner] && zoneOf(k.Owner.Parent()) == apex && (k.Type == record.TypeNS || k.Type == record.TypeDS) {
			out["cut "+string(k.AppendBinary(nil))] = r
		}
	}
	for child := range apexes {
		if p := child.Parent(); p != "" && zoneOf(p) == apex {
			out["zone "+string(child)] = record.RRset{}
		}
	}
	return out
}

func (m *model) apply(d *Delta) {
	before := model{sets: maps.Clone(m.sets)}
	if d.Full {
		m.sets, m.stamps, m.content = map[record.Key]record.RRset{}, map[record.Name]uint64{}, d.Version
	}
	changed := false
	for _, r := range d.Put {
		old, ok := m.sets[r.Key]
		changed = changed || !IsFreshness(r.Key) && (!ok || !old.Equal(r))
		m.sets[r.Key] = r
	}
	for _, k := range d.Remove {
		_, ok := m.sets[k]
		changed = changed || !IsFreshness(k) && ok
		delete(m.sets, k)
	}
	if changed {
		m.content = d.Version
	}
	was := before.apexes()
	for apex := range was {
		if !m.apexes()[apex] {
			delete(m.stamps, apex)
		}
	}
	for apex := range m.apexes() {
		if d.Full || !was[apex] || !cmp.Equal(before.view(apex), m.view(apex)) {
			m.stamps[apex] = d.Version
		}
	}
}

func (m model) sorted() []record.RRset {
	return slices.SortedFunc(maps.Values(m.sets), func(a, b record.RRset) int { return a.Key.Compare(b.Key) })
}

func TestDatasetFollowsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := NewDataset("internal")
		m := model{sets: map[record.Key]record.RRset{}, stamps: map[record.Name]uint64{}}
		var clone *Dataset
		var cloned []record.RRset
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			put := drawSets(t, "puts")
			var delta *Delta
			var err error
			if rapid.IntRange(0, 5).Draw(t, "full") == 0 {
				delta, err = d.Replace(int64(i), put)
			} else {
				var remove []record.Key
				for _, r := range drawSets(t, "removes") {
					if !slices.ContainsFunc(put, func(p record.RRset) bool { return p.Key == r.Key }) {
						remove = append(remove, r.Key)
					}
				}
				delta, err = d.Change(int64(i), put, remove)
			}
			if err != nil {
				t.Fatal(err)
			}
			encoded, err := delta.Encode()
			if err != nil {
				t.Fatal(err)
			}
			decoded, err := DecodeDelta(encoded)
			if err != nil {
				t.Fatal(err)
			}
			if again, _ := decoded.Encode(); !bytes.Equal(again, encoded) {
				t.Fatal("re-encoded delta differs")
			}
			if err := d.Apply(decoded); err != nil {
				t.Fatal(err)
			}
			m.apply(delta)
			if d.Chain() != ChainOf(encoded) || d.Version() != uint64(i+1) || d.Time() != int64(i) {
				t.Fatalf("version %d, time %d, chain %s", d.Version(), d.Time(), d.Chain())
			}
			if got, want := d.Digest(), digestOf(m.sorted()); got != want {
				t.Fatalf("digest is %s, afresh %s", got, want)
			}
			if rapid.Bool().Draw(t, "look") {
				if diff := cmp.Diff(m.sorted(), slices.Collect(d.All()), cmp.Comparer(record.RRset.Equal)); diff != "" && len(m.sets)+d.Len() > 0 {
					t.Fatal(diff)
				}
			}
			if diff := cmp.Diff(m.stamps, d.Zones()); diff != "" {
				t.Fatalf("zones (-want +got):\n%s", diff)
			}
			if got, want := d.Content(), m.content; got != want {
				t.Fatalf("content %d, want %d", got, want)
			}
			if rapid.IntRange(0, 3).Draw(t, "clone") == 0 {
				clone, cloned = d.Clone(), m.sorted()
			}
		}
		if clone != nil {
			if diff := cmp.Diff(cloned, slices.Collect(clone.All()), cmp.Comparer(record.RRset.Equal)); diff != "" && len(cloned)+clone.Len() > 0 {
				t.Fatalf("a clone changed:\n%s", diff)
			}
		}
		var file bytes.Buffer
		ref, err := Write(&file, d)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Read(bytes.NewReader(file.Bytes()), ref)
		if err != nil {
			t.Fatal(err)
		}
		sameDataset(t, back, d)
		var again bytes.Buffer
		if _, err := Write(&again, back); err != nil || !bytes.Equal(again.Bytes(), file.Bytes()) {
			t.Fatalf("equal datasets gave different files (%v)", err)
		}
	})
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func sameDataset(t fataler, got, want *Dataset) {
	t.Helper()
	type facts struct {
		Name     string
		Ref      Ref
		Content  uint64
		Len      int
		Zones    map[record.Name]uint64
		RRsets   []record.RRset
		LookedUp int
		Serial   string
	}
	of := func(d *Dataset) facts {
		f := facts{Name: d.Name(), Ref: d.Ref(), Content: d.Content(), Len: d.Len(), Zones: d.Zones(), RRsets: slices.Collect(d.All())}
		for _, r := range f.RRsets {
			if g, ok := d.Get(r.Key); ok && g.Equal(r) {
				f.LookedUp++
			}
		}
		for _, apex := range slices.Sorted(maps.Keys(f.Zones)) {
			f.Serial += fmt.Sprint(d.Serial(apex), " ")
		}
		return f
	}
	if diff := cmp.Diff(of(want), of(got), cmp.Comparer(record.RRset.Equal)); diff != "" {
		t.Fatalf("datasets differ (-want +got):\n%s", diff)
	}
}

func TestApplyIsAllOrNothing(t *testing.T) {
	d := NewDataset("internal")
	change(t, d, []record.RRset{rrset(t, "example.net", record.TypeSOA, soa(1)), rrset(t, "www.example.net", record.TypeA, "\xc0\x00\x02\x01")})
	good, err := d.Change(5000, []record.RRset{rrset(t, "www.example.net", record.TypeA, "\xc0\x00\x02\x02")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, spoil := range map[string]func(*Delta){
		"name":     func(x *Delta) { x.Dataset = "external" },
		"version":  func(x *Delta) { x.Version++ },
		"older":    func(x *Delta) { x.Version-- },
		"base":     func(x *Delta) { x.BaseDigest[31]++ },
		"prev":     func(x *Delta) { x.Prev[0]++ },
		"digest":   func(x *Delta) { x.Digest[0]++ },
		"content":  func(x *Delta) { x.Put[0].TTL++ },
		"unsorted": func(x *Delta) { x.Put = append(x.Put, x.Put[0]) },
		"both":     func(x *Delta) { x.Remove = []record.Key{x.Put[0].Key} },
		"full":     func(x *Delta) { x.Full = true },
	} {
		bad := *good
		bad.Put = slices.Clone(good.Put)
		spoil(&bad)
		before := d.Clone()
		if err := d.Apply(&bad); err == nil {
			t.Errorf("%s: a spoilt delta was applied", what)
		}
		sameDataset(t, d, before)
	}
	if err := d.Apply(good); err != nil {
		t.Error(err)
	}
}

func TestZoneStamps(t *testing.T) {
	d := NewDataset("internal")
	parent, child := name(t, "example.net"), name(t, "a.example.net")
	expect := func(what string, want map[record.Name]uint64) {
		t.Helper()
		if diff := cmp.Diff(want, d.Zones()); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", what, diff)
		}
	}
	change(t, d, []record.RRset{rrset(t, "example.net", record.TypeSOA, soa(7)), rrset(t, "w.a.example.net", record.TypeA, "1234")})
	expect("parent made", map[record.Name]uint64{parent: 1})
	change(t, d, []record.RRset{rrset(t, "a.example.net", record.TypeSOA, soa(9))})
	expect("child made", map[record.Name]uint64{parent: 2, child: 2})
	change(t, d, []record.RRset{rrset(t, "w.a.example.net", record.TypeA, "1235")})
	expect("below child", map[record.Name]uint64{parent: 2, child: 3})
	change(t, d, []record.RRset{rrset(t, "a.example.net", record.TypeNS, "\x02ns\x00")})
	expect("delegation", map[record.Name]uint64{parent: 4, child: 4})
	change(t, d, []record.RRset{rrset(t, "a.example.net", record.TypeSOA, soa(10))})
	expect("SOA of the child", map[record.Name]uint64{parent: 4, child: 5})
	change(t, d, []record.RRset{rrset(t, "_fresh.a.example.net", record.TypeTXT, "\x01x")})
	expect("freshness", map[record.Name]uint64{parent: 4, child: 5})
	if got, want := d.Content(), uint64(5); got != want {
		t.Errorf("content %d, want %d", got, want)
	}
	if got, want := d.Serial(child), uint32(15); got != want {
		t.Errorf("serial %d, want %d", got, want)
	}
	rd := d.sets[record.Key{Owner: child, Type: record.TypeSOA}].Data[0]
	if got, err := SOASerial(SOAWithSerial(rd, 4711)); err != nil || got != 4711 {
		t.Errorf("serial %d, %v", got, err)
	}
	change(t, d, nil, record.Key{Owner: child, Type: record.TypeSOA})
	expect("child gone", map[record.Name]uint64{parent: 7})
	if apex, ok := d.ZoneOf(name(t, "x.w.a.example.net")); !ok || apex != parent {
		t.Errorf("zone of a name below is %s", apex)
	}
}

func TestSerialWraps(t *testing.T) {
	d := NewDataset("internal")
	apex := name(t, "example.net")
	rd := SOAWithSerial(soa(1), 1<<32-1)
	change(t, d, []record.RRset{record.NewRRset(apex, record.TypeSOA, 300, rd)})
	if got := d.Serial(apex); got != 0 {
		t.Errorf("serial %d, want 0", got)
	}
	if got := SOAWithSerial("\x00", 5); got != "\x00" {
		t.Errorf("RDATA that is no SOA's became %q", got)
	}
}
