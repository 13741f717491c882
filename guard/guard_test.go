package guard_test

import (
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// dataset is what a Judge judges changes of.
type dataset map[record.Key]record.RRset

func newDataset(sets ...record.RRset) dataset {
	d := dataset{}
	d.put(sets...)
	return d
}

func (d dataset) put(sets ...record.RRset) {
	for _, r := range sets {
		d[r.Key] = r
	}
}

func (d dataset) all() iter.Seq[record.RRset] { return maps.Values(d) }

// change is what putting and removing does, in the order that reconcile gives.
func (d dataset) change(put []record.RRset, remove ...record.RRset) reconcile.Change {
	var c reconcile.Change
	for _, r := range put {
		old, was := d[r.Key]
		if was && old.Equal(r) {
			continue
		}
		c.Put = append(c.Put, r)
		if was {
			c.Old = append(c.Old, old)
		}
	}
	for _, r := range remove {
		c.Remove = append(c.Remove, r.Key)
		c.Old = append(c.Old, d[r.Key])
	}
	byKey := func(a, b record.RRset) int { return a.Key.Compare(b.Key) }
	slices.SortFunc(c.Put, byKey)
	slices.SortFunc(c.Old, byKey)
	slices.SortFunc(c.Remove, record.Key.Compare)
	return c
}

func (d dataset) apply(c reconcile.Change) {
	for _, k := range c.Remove {
		delete(d, k)
	}
	d.put(c.Put...)
}

// judge has a Judge of d that attributes to each source what it made.
func (d dataset) judge(t testing.TB, b guard.Bounds, made map[record.Source]int) *guard.Judge {
	t.Helper()
	j, err := guard.New(b, d.all, made)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func name(text string) record.Name {
	n, err := record.ParseName(text)
	if err != nil {
		panic(err)
	}
	return n
}

func a(owner string, ttl uint32, addresses ...uint32) record.RRset {
	var data []record.Rdata
	for _, a := range addresses {
		data = append(data, record.Rdata(binary.BigEndian.AppendUint32(nil, a)))
	}
	return record.NewRRset(name(owner), record.TypeA, ttl, data...)
}

func names(owner string, typ record.Type, targets ...string) record.RRset {
	var data []record.Rdata
	for _, t := range targets {
		data = append(data, record.Rdata(name(t)))
	}
	return record.NewRRset(name(owner), typ, 3600, data...)
}

func txt(owner, text string) record.RRset {
	return record.NewRRset(name(owner), record.TypeTXT, 3600, record.Rdata([]byte{byte(len(text))})+record.Rdata(text))
}

// zone is SOA and NS.
func zone(apex string) []record.RRset {
	soa := record.Rdata(name("ns0.example.")) + record.Rdata(name("root.example.")) + record.Rdata(make([]byte, 20))
	return []record.RRset{record.NewRRset(name(apex), record.TypeSOA, 3600, soa), names(apex, record.TypeNS, "ns0.example.", "ns1.example.")}
}

func hosts(apex string, first, n int) []record.RRset {
	var sets []record.RRset
	for i := first; i < first+n; i++ {
		sets = append(sets, a(fmt.Sprintf("h%05d.%s", i, apex), 3600, 10<<24|uint32(i)))
	}
	return sets
}

func pointers(apex string, first, n int) []record.RRset {
	var sets []record.RRset
	for i := first; i < first+n; i++ {
		sets = append(sets, names(fmt.Sprintf("%d.%d.%d.10.in-addr.arpa.", i&255, i>>8&255, i>>16), record.TypePTR, fmt.Sprintf("h%05d.%s", i, apex)))
	}
	return sets
}

func join(lists ...[]record.RRset) []record.RRset { return slices.Concat(lists...) }

// TestTrips has what must be held, and what is said of it, and beside it what is like
// it and must go through: want is empty then.
func TestTrips(t *testing.T) {
	const z = "example.net."
	edge := zone("10.in-addr.arpa.")
	ttl0 := func(sets []record.RRset) []record.RRset {
		low := slices.Clone(sets)
		for i := range low {
			low[i].TTL = 0
		}
		return low
	}
	moved := func(sets []record.RRset, to string) []record.RRset {
		other := slices.Clone(sets)
		for i := range other {
			other[i].Owner = name(strings.Replace(other[i].Owner.String(), ".", to+".", 1))
		}
		return other
	}
	aliases := func(n int, to string) (sets []record.RRset) {
		for i := range n {
			sets = append(sets, names(fmt.Sprintf("w%04d.%s", i, z), record.TypeCNAME, to))
		}
		return sets
	}
	many := hosts(z, 0, 9000)
	www := a("www."+z, 300, 0x0a000001, 0x0a000002)
	fresh := txt("_fresh.internal."+z, "1")
	vip := a("vip."+z, 300, 0x0a0000fe)
	for _, c := range []struct {
		name   string
		source record.Source
		there  []record.RRset
		made   int // of there, by the source
		put    []record.RRset
		remove []record.RRset
		want   []string // texts; nil: nothing
	}{
		{
			name: "a zone of 5 is emptied", source: "zone/a", there: join(zone(z), hosts(z, 0, 3)), remove: hosts(z, 0, 3),
			want: []string{"zone/a would empty the zone example.net.: all 3 RRsets are removed, and none is left but SOA and NS: 3 A; h00000.example.net. A 10.0.0.0, h00001.example.net. A 10.0.0.1, h00002.example.net. A 10.0.0.2"},
		},
		{
			name: "a zone of 9,000 is emptied", source: "config/a", there: join(zone(z), many), remove: many,
			want: []string{"config/a would empty the zone example.net.: all 9,000 RRsets are removed, and none is left but SOA and NS: 9,000 A; for example h00000.example.net. A 10.0.0.0, h04499.example.net. A 10.0.17.147, h08999.example.net. A 10.0.35.39"},
		},
		{
			name: "a zone of 5 is taken away", source: "zone/a", there: join(zone(z), hosts(z, 0, 3)), remove: join(zone(z), hosts(z, 0, 3)),
			want: []string{"zone/a would take the zone example.net. away: its SOA, and 3 RRsets with it: 3 A; h00000.example.net. A 10.0.0.0, h00001.example.net. A 10.0.0.1, h00002.example.net. A 10.0.0.2"},
		},
		{
			name: "a zone of nothing is taken away", source: "zone/a", there: zone(z), remove: zone(z),
			want: []string{"zone/a would take the zone example.net. away, in which was nothing but SOA and NS"},
		},
		{
			name: "a zone's SOA is taken away, and its names are the zone's above", source: "rule/fallback",
			there: join(zone("net."), zone(z), hosts(z, 0, 3)), remove: zone(z),
		},
		{
			name: "two of a zone of 5 go", source: "zone/a", there: join(zone(z), hosts(z, 0, 3)), remove: hosts(z, 0, 2),
		},
		{
			name: "nine of a zone of 14 go", source: "zone/a", there: join(zone(z), hosts(z, 0, 12)), remove: hosts(z, 0, 9),
			want: []string{"zone/a would remove 9 of 12 RRsets of example.net. (75 %); at most 8 are let through within 10m (zone-removed is 10% 25..1000): 9 A; for example h00000.example.net. A 10.0.0.0, h00004.example.net. A 10.0.0.4, h00008.example.net. A 10.0.0.8"},
		},
		{
			name: "a tenth of a large zone goes", source: "zone/a", there: join(zone(z), many), remove: many[:900], made: 9000,
		},
		{
			name: "more than a tenth of a large zone goes", source: "zone/a", there: join(zone(z), many), remove: many[:901], made: 9000,
			want: []string{"zone/a would remove 901 of 9,000 RRsets of example.net. (10 %); at most 900 are let through within 10m (zone-removed is 10% 25..1000): 901 A; for example h00000.example.net. A 10.0.0.0, h00450.example.net. A 10.0.1.194, h00900.example.net. A 10.0.3.132"},
		},
		{
			name: "a fleet file is cut in half", source: "rule/fleet",
			there:  join(zone(z), zone("10.in-addr.arpa."), hosts(z, 0, 1300), pointers(z, 0, 1300), hosts(z, 5000, 8000), pointers(z, 5000, 6500)),
			remove: join(hosts(z, 650, 650), pointers(z, 650, 650)), made: 2600,
			want: []string{"rule/fleet would remove 1,300 of 2,600 RRsets that it made (50 %); at most 260 are let through within 10m (source-removed is 10% 25..1000): 650 A and 650 PTR; for example h00650.example.net. A 10.0.2.138, h00974.example.net. A 10.0.3.206, h01299.example.net. A 10.0.5.19"},
		},
		{
			name: "a fleet file is cut in half, and the fleet is all there is", source: "rule/fleet",
			there:  join(zone(z), edge, hosts(z, 0, 1300), pointers(z, 0, 1300)),
			remove: join(hosts(z, 650, 650), pointers(z, 650, 650)), made: 2600,
			want: []string{
				"rule/fleet would remove 650 of 1,300 RRsets of 10.in-addr.arpa. (50 %); at most 130 are let through within 10m (zone-removed is 10% 25..1000): 650 PTR; for example 138.2.0.10.in-addr.arpa. PTR h00650.example.net., 54.3.0.10.in-addr.arpa. PTR h00822.example.net., 9.5.0.10.in-addr.arpa. PTR h01289.example.net.",
				"rule/fleet would remove 650 of 1,300 RRsets of example.net. (50 %); at most 130 are let through within 10m (zone-removed is 10% 25..1000): 650 A; for example h00650.example.net. A 10.0.2.138, h00974.example.net. A 10.0.3.206, h01299.example.net. A 10.0.5.19",
			},
		},
		{
			name: "a rule returns nothing", source: "rule/web", there: join(zone(z), many, aliases(12, "h00001."+z)), made: 12, remove: aliases(12, "h00001."+z),
			want: []string{"rule/web would return nothing any more, and made 12 RRsets: 12 CNAME; for example w0000.example.net. CNAME h00001.example.net., w0005.example.net. CNAME h00001.example.net., w0011.example.net. CNAME h00001.example.net."},
		},
		{
			name: "a rule's only RRset goes", source: "rule/web", there: join(zone(z), many, aliases(1, "h00001."+z)), made: 1, remove: aliases(1, "h00001."+z),
		},
		{
			name: "an update's RRsets go", source: "update/key", there: join(zone(z), many, aliases(12, "h00001."+z)), made: 12, remove: aliases(12, "h00001."+z),
		},
		{
			name: "a TTL of 0 everywhere", source: "zone/a", there: join(zone(z), many), put: ttl0(join(zone(z), many)), made: 9000,
			want: []string{
				"zone/a would replace 9,000 of 9,000 RRsets of example.net. (100 %); at most 900 are let through within 10m (zone-replaced is 10% 25..1000): 9,000 A; for example h00000.example.net. A TTL 3600 → 0, h04499.example.net. A TTL 3600 → 0, h08999.example.net. A TTL 3600 → 0",
				"zone/a would lower the TTL, to 0 or near it, of 9,002 RRsets of example.net.; at most 90 are let through within 10m (ttl-lowered is 1% 10..100): 9,000 A, 1 NS and 1 SOA; for example example.net. NS TTL 3600 → 0, h04498.example.net. A TTL 3600 → 0, h08999.example.net. A TTL 3600 → 0",
			},
		},
		{
			name: "a TTL of 0 everywhere in a zone of 5", source: "config/a", there: join(zone(z), hosts(z, 0, 3)), put: ttl0(join(zone(z), hosts(z, 0, 3))),
			want: []string{"config/a would lower the TTL, to 0 or near it, of 5 RRsets of example.net.; at most 2 are let through within 10m (ttl-lowered is 1% 10..100): 3 A, 1 NS and 1 SOA; for example example.net. NS TTL 3600 → 0, h00000.example.net. A TTL 3600 → 0, h00002.example.net. A TTL 3600 → 0"},
		},
		{
			name: "a TTL of 0 on a few", source: "zone/a", there: join(zone(z), many), put: ttl0(many[:20]), made: 9000,
		},
		{
			name: "an apex NS is removed", source: "zone/a", there: join(zone(z), many), remove: zone(z)[1:],
			want: []string{"zone/a would take away example.net. NS ns0.example. ns1.example., which is not let through because it is at the apex of a zone"},
		},
		{
			name: "every apex NS is replaced", source: "update/key", there: join(zone(z), many), put: []record.RRset{names(z, record.TypeNS, "ns7.example.", "ns8.example.")},
			want: []string{"update/key would take away example.net. NS ns0.example. ns1.example. → ns7.example. ns8.example., which is not let through because it is at the apex of a zone"},
		},
		{
			name: "an apex NS is replaced, another stays", source: "update/key", there: join(zone(z), many), put: []record.RRset{names(z, record.TypeNS, "ns1.example.", "ns8.example.")},
		},
		{
			name: "a cut's NS goes", source: "update/key", there: join(zone(z), many, []record.RRset{names("cut."+z, record.TypeNS, "ns7.example.")}), remove: []record.RRset{names("cut."+z, record.TypeNS, "ns7.example.")},
		},
		{
			name: "a freshness record goes", source: "rule/fresh", there: join(zone(z), many, []record.RRset{fresh}), remove: []record.RRset{fresh},
			want: []string{`rule/fresh would take away _fresh.internal.example.net. TXT "1", which is not let through because it proves how fresh the dataset is`},
		},
		{
			name: "a protected name's address goes", source: "rule/vip", there: join(zone(z), many, []record.RRset{vip}), remove: []record.RRset{vip},
			want: []string{"rule/vip would take away vip.example.net. A 10.0.0.254, which is not let through because its name is protected"},
		},
		{
			name: "protected names' addresses go", source: "rule/vip", there: join(zone(z), many, hosts("svc."+z, 0, 5)), remove: hosts("svc."+z, 0, 5),
			want: []string{"rule/vip would take away 5 RRsets, each of which is not let through because its name is protected: 5 A; for example h00000.svc.example.net. A 10.0.0.0, h00002.svc.example.net. A 10.0.0.2, h00004.svc.example.net. A 10.0.0.4"},
		},
		{
			name: "a protected name's address is replaced", source: "rule/vip", there: join(zone(z), many, []record.RRset{vip}), put: []record.RRset{a("vip."+z, 300, 1)},
			want: []string{"rule/vip would take away vip.example.net. A 10.0.0.254 → 0.0.0.1, which is not let through because its name is protected"},
		},
		{
			name: "a name below a protected wildcard becomes an alias", source: "rule/vip", there: join(zone(z), many, []record.RRset{a("x.svc."+z, 300, 5)}),
			put: []record.RRset{names("x.svc."+z, record.TypeCNAME, "h00001."+z)}, remove: []record.RRset{a("x.svc."+z, 300, 5)},
			want: []string{"rule/vip would take away x.svc.example.net. A 0.0.0.5, which is not let through because its name is protected"},
		},
		{
			name: "a protected name's TTL changes, and it gets an address more", source: "rule/vip", there: join(zone(z), many, []record.RRset{vip}), put: []record.RRset{a("vip."+z, 600, 0x0a0000fe, 7)},
		},
		{
			name: "every address of a service is replaced", source: "rule/web", there: join(zone(z), many, []record.RRset{www}), put: []record.RRset{a("www."+z, 300, 0x0a000003, 0x0a000004)},
			want: []string{"rule/web would leave none of the addresses of www.example.net. A 10.0.0.1 10.0.0.2 → 10.0.0.3 10.0.0.4"},
		},
		{
			name: "a service is removed", source: "zone/a", there: join(zone(z), many, []record.RRset{www, a("api."+z, 300, 1, 2, 3)}), remove: []record.RRset{www, a("api."+z, 300, 1, 2, 3)},
			want: []string{"zone/a would leave none of the addresses of 2 RRsets that have several: 2 A; api.example.net. A 0.0.0.1 0.0.0.2 0.0.0.3, www.example.net. A 10.0.0.1 10.0.0.2"},
		},
		{
			name: "a service keeps one address", source: "rule/web", there: join(zone(z), many, []record.RRset{www}), put: []record.RRset{a("www."+z, 300, 0x0a000001)},
		},
		{
			name: "a host's only address is replaced", source: "rule/web", there: join(zone(z), many), put: []record.RRset{a("h00001."+z, 3600, 1)},
		},
		{
			name: "a person's override may do all of this", source: "override/1", there: join(zone(z), many), remove: join(zone(z), many),
		},
		{
			name: "20 of a zone of 40 are renamed", source: "rule/fleet", there: join(zone(z), hosts(z, 0, 40)), made: 40, put: moved(hosts(z, 0, 20), "-new"), remove: hosts(z, 0, 20),
		},
		{
			name: "30 of a zone of 60 are renamed", source: "rule/fleet", there: join(zone(z), hosts(z, 0, 60)), made: 60, put: moved(hosts(z, 0, 30), "-new"), remove: hosts(z, 0, 30),
			want: []string{"rule/fleet would replace 30 of 60 RRsets of example.net. (50 %); at most 25 are let through within 10m (zone-replaced is 10% 25..1000): 30 A, 30 of them renamed; for example h00000.example.net. A 10.0.0.0 → h00000-new.example.net., h00014.example.net. A 10.0.0.14 → h00014-new.example.net., h00029.example.net. A 10.0.0.29 → h00029-new.example.net."},
		},
		{
			name: "people repoint the aliases of a site", source: "zone/a", there: join(zone(z), aliases(680, "lb1.example.")), put: aliases(680, "lb2.example."), made: 680,
		},
		{
			name: "a robot repoints the aliases of a site", source: "update/key", there: join(zone(z), aliases(680, "lb1.example.")), put: aliases(680, "lb2.example."), made: 680,
			want: []string{"update/key would replace 680 of 680 RRsets of example.net. (100 %); at most 68 are let through within 10m (zone-replaced is 10% 25..1000): 680 CNAME; for example w0000.example.net. CNAME lb1.example. → lb2.example., w0339.example.net. CNAME lb1.example. → lb2.example., w0679.example.net. CNAME lb1.example. → lb2.example."},
		},
		{
			name: "people repoint more aliases than that", source: "zone/a", there: join(zone(z), aliases(1200, "lb1.example.")), put: aliases(1200, "lb2.example."), made: 1200,
			want: []string{"zone/a would repoint 1,200 of 1,200 RRsets of example.net. (100 %); at most 1,000 are let through within 10m (zone-repointed is 100% 25..1000): 1,200 CNAME; for example w0000.example.net. CNAME lb1.example. → lb2.example., w0599.example.net. CNAME lb1.example. → lb2.example., w1199.example.net. CNAME lb1.example. → lb2.example."},
		},
		{
			name: "a zone gets ten thousand more", source: "rule/fleet", there: join(zone(z), hosts(z, 0, 3)), made: 3, put: hosts(z, 10, 10_000),
		},
		{
			name: "a zone gets more than ten thousand more", source: "rule/fleet", there: join(zone(z), hosts(z, 0, 3)), made: 3, put: hosts(z, 10, 10_001),
			want: []string{"rule/fleet would create 10,001 RRsets of example.net. where there were 3; at most 10,000 are let through within 10m (zone-created is 100% 10000..100000): 10,001 A; for example h00010.example.net. A 10.0.0.10, h05010.example.net. A 10.0.19.146, h10010.example.net. A 10.0.39.26"},
		},
		{
			name: "a new zone may be as large as it is", source: "zone/new", there: join(zone(z), many), put: join(zone("example.org."), hosts("example.org.", 0, 25_000)),
		},
		{
			name: "challenges come and go", source: "update/acme", there: join(zone(z), hosts(z, 0, 3), challenges(z, 20)), made: 20, remove: challenges(z, 20),
		},
		{
			name: "nobody led", source: "", there: join(zone(z), many), remove: many[:2000],
			want: []string{"what changed while nobody led would remove 2,000 of 9,000 RRsets of example.net. (22 %); at most 900 are let through within 10m (zone-removed is 10% 25..1000): 2,000 A; for example h00000.example.net. A 10.0.0.0, h00999.example.net. A 10.0.3.231, h01999.example.net. A 10.0.7.207"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			bounds := guard.DefaultBounds()
			bounds.Protect = []record.Name{name("vip." + z), name("*.svc." + z)}
			d := newDataset(c.there...)
			j := d.judge(t, bounds, map[record.Source]int{c.source: c.made})
			v := j.Judge(c.source, d.change(c.put, c.remove...), start)
			var got []string
			for _, trip := range v.Trips {
				got = append(got, trip.Text)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if v.Held() != (len(c.want) > 0) {
				t.Errorf("held is %v", v.Held())
			}
		})
	}
}

func challenges(zone string, n int) (sets []record.RRset) {
	for i := range n {
		sets = append(sets, txt(fmt.Sprintf("_acme-challenge.h%05d.%s", i, zone), "token"))
	}
	return sets
}
