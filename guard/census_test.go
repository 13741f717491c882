package guard

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// TestCensus: whatever comes and goes, zones within zones among it, the census is what
// a new one counts, and events are what the two datasets differ in.
func TestCensus(t *testing.T) {
	var owners []record.Name
	for _, text := range []string{
		"net.", "example.net.", "a.example.net.", "b.a.example.net.", "c.b.a.example.net.", "x.net.", "y.x.net.", "d.example.net.", "_fresh.internal.example.net.",
	} {
		n, err := record.ParseName(text)
		if err != nil {
			t.Fatal(err)
		}
		owners = append(owners, n)
	}
	target := record.Rdata(owners[0])
	data := map[record.Type][]record.Rdata{
		record.TypeSOA: {target + target + record.Rdata(make([]byte, 20))},
		record.TypeNS:  {target},
		record.TypeA:   {"\x0a\x00\x00\x01", "\x0a\x00\x00\x02"},
		record.TypeTXT: {"\x01a", "\x01b"},
	}
	types := []record.Type{record.TypeSOA, record.TypeSOA, record.TypeNS, record.TypeA, record.TypeTXT}
	rapid.Check(t, func(t *rapid.T) {
		state := reconcile.New(reconcile.DefaultPolicy())
		j, err := New(DefaultBounds(), state.All, nil)
		if err != nil {
			t.Fatal(err)
		}
		before := map[record.Key]record.RRset{}
		for step := range rapid.IntRange(1, 12).Draw(t, "steps") {
			source := rapid.SampledFrom([]record.Source{"zone/a", "zone/b", "rule/c", "override/1"}).Draw(t, "source")
			var claims []record.Claim
			for range rapid.IntRange(0, 8).Draw(t, "claims") {
				typ := rapid.SampledFrom(types).Draw(t, "type")
				r := record.NewRRset(rapid.SampledFrom(owners).Draw(t, "owner"), typ, 300, rapid.SampledFrom(data[typ]).Draw(t, "data"))
				r.Location = rapid.SampledFrom([]record.Location{"", "", "eu"}).Draw(t, "location")
				claims = append(claims, record.Claim{RRset: r, Source: source})
			}
			state.Replace(source, "", claims)
			change := state.Reconcile()
			now := time.Unix(int64(step), 0)
			v := j.Judge(source, change, now)
			if rapid.Bool().Draw(t, "admit") {
				j.Admit(source, change, now)
			} else {
				j.Accept(source, change, now)
			}

			after := map[record.Key]record.RRset{}
			for r := range state.All() {
				after[r.Key] = r
			}
			for _, e := range events(&change, nil) {
				old, was := before[*e.key]
				is, stays := after[*e.key]
				want := map[bool]effect{true: replaced, false: removed}[stays]
				if !was {
					want = created
				}
				if e.effect != want || was != (e.old != nil) || stays != (e.now != nil) || was && !e.old.Equal(old) || stays && !e.now.Equal(is) {
					t.Fatalf("%s: event %+v, it was %v and is %v", e.key, e, old, is)
				}
				delete(before, *e.key)
				delete(after, *e.key)
			}
			for k, r := range after {
				if !r.Equal(before[k]) {
					t.Fatalf("no event tells of %s", k)
				}
				delete(before, k)
			}
			if len(before) > 0 {
				t.Fatalf("no event tells that %v are gone", before)
			}
			maps.Insert(before, func(yield func(record.Key, record.RRset) bool) {
				for r := range state.All() {
					if !yield(r.Key, r) {
						return
					}
				}
			})

			fresh, err := New(DefaultBounds(), state.All, nil)
			if err != nil {
				t.Fatal(err)
			}
			sizes := func(c *census) map[string]string {
				m := map[string]string{"": fmt.Sprint(c.rrsets)}
				for apex, z := range c.zones {
					m[apex.String()] = fmt.Sprintf("%d RRsets, %d SOAs", z.rrsets, z.soas)
				}
				return m
			}
			if d := cmp.Diff(sizes(&fresh.census), sizes(&j.census)); d != "" {
				t.Fatalf("after %s, which does %+v, the census is (-new +followed):\n%s", source, change, d)
			}
			fork, err := j.Fork(DefaultBounds())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(sizes(&j.census), sizes(&fork.census)); d != "" {
				t.Fatalf("the fork's census is (-judge +fork):\n%s", d)
			}
			// What a fork takes in is not the judge's.
			var all []record.Claim
			for r := range state.All() {
				all = append(all, record.Claim{RRset: r})
			}
			empty := reconcile.Change{}
			for _, c := range all {
				empty.Remove, empty.Old = append(empty.Remove, c.Key), append(empty.Old, c.RRset)
			}
			was := sizes(&j.census)
			fork.census.all = reconcile.New(reconcile.DefaultPolicy()).All
			fork.Accept(source, empty, now)
			if d := cmp.Diff(was, sizes(&j.census)); d != "" || fork.Size() != 0 {
				t.Fatalf("the fork has %d RRsets; what it took in changed the judge (-before +after):\n%s", fork.Size(), d)
			}
			if v.Held() && source.Kind() == record.KindOverride {
				t.Fatalf("an override is held: %s", v)
			}
		}
	})
}
