package guard_test

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/geo"
	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// TestMovedPrefixes: a map is held when too many of its prefixes go to other PoPs, at once or
// little by little; not when they are cut otherwise; and states of PoPs never are.
func TestMovedPrefixes(t *testing.T) {
	world := geo.Map{Name: "world", Uses: []geo.Use{{Name: record.Root, Below: true}}}
	for i := range 1000 {
		world.Entries = append(world.Entries, geo.Entry{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18 + byte(i>>8), byte(i)}), 24), Location: "esams"})
	}
	all := map[record.Key]record.RRset{}
	soa := record.NewRRset(geo.Zone, record.TypeSOA, 300, "\x00\x00"+record.Rdata(make([]byte, 20)))
	all[soa.Key] = soa
	put := func(m geo.Map) {
		rr, err := m.RRsets(geo.Zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rr {
			all[r.Key] = r
		}
	}
	put(world)
	j, err := guard.New(guard.DefaultBounds(), func() iter.Seq[record.RRset] { return maps.Values(all) }, map[record.Source]int{"map/world": len(all)})
	if err != nil {
		t.Fatal(err)
	}
	// change is what brings the map from one to another.
	change := func(from, to geo.Map) (c reconcile.Change) {
		was, err := from.RRsets(geo.Zone)
		if err != nil {
			t.Fatal(err)
		}
		is, err := to.RRsets(geo.Zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range is {
			i := slices.IndexFunc(was, func(o record.RRset) bool { return o.Key == r.Key })
			if i < 0 || !was[i].Equal(r) {
				c.Put = append(c.Put, r)
			}
			if i >= 0 && !was[i].Equal(r) {
				c.Old = append(c.Old, was[i])
			}
		}
		for _, o := range was {
			if !slices.ContainsFunc(is, func(r record.RRset) bool { return r.Key == o.Key }) {
				c.Old, c.Remove = append(c.Old, o), append(c.Remove, o.Key)
			}
		}
		slices.SortFunc(c.Old, func(a, b record.RRset) int { return a.Key.Compare(b.Key) })
		slices.SortFunc(c.Remove, record.Key.Compare)
		return c
	}
	moved := func(m geo.Map, first, n int) geo.Map {
		to := geo.Map{Name: m.Name, Entries: slices.Clone(m.Entries), Uses: m.Uses}
		for i := first; i < first+n; i++ {
			to.Entries[i].Location = "drmrs"
		}
		return to
	}
	now := time.UnixMilli(1_790_000_000_000)
	v := j.Judge("map/world", change(world, moved(world, 0, 300)), now)
	if want := "map/world would move 300 of the 1,000 prefixes of map world to other PoPs (30 %); at most 200 are let through within 10m (moved is 20% 8..10000000); for example 198.18.0.0/24 esams → drmrs"; !v.Held() || !strings.HasPrefix(v.String(), want) {
		t.Errorf("30 %% of a map: %q, want %q", v, want)
	}
	// Half of the blocks are cut otherwise, and everybody stays.
	cut := geo.Map{Name: "world", Entries: slices.Clone(world.Entries[:500]), Uses: world.Uses}
	for i := 500; i < 1000; i++ {
		p := world.Entries[i].Prefix
		half := p.Addr().As4()
		half[3] = 128
		cut.Entries = append(cut.Entries, geo.Entry{Prefix: netip.PrefixFrom(p.Addr(), 25), Location: "esams"}, geo.Entry{Prefix: netip.PrefixFrom(netip.AddrFrom4(half), 25), Location: "esams"})
	}
	if v := j.Judge("map/world", change(world, cut), now); v.Held() {
		t.Errorf("cut otherwise: %s", v)
	}
	// 15 % now and 15 % later are 30 % within the window, and behind it they are not.
	at := moved(world, 0, 150)
	c := change(world, at)
	if v := j.Judge("map/world", c, now); v.Held() {
		t.Fatalf("15 %%: %s", v)
	}
	counts := j.Accept("map/world", c, now)
	if want := (guard.Count{Source: "map/world", Map: "world", Moved: 150}); len(counts) == 0 || counts[len(counts)-1] != want {
		t.Errorf("15 %% count as %+v, want %+v among them", counts, want)
	}
	before := all
	all = map[record.Key]record.RRset{soa.Key: soa}
	put(at)
	next, err := guard.New(guard.DefaultBounds(), func() iter.Seq[record.RRset] { return maps.Values(all) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range counts {
		next.Restore(n, now)
	}
	if v := next.Judge("map/world", change(at, moved(at, 150, 150)), now.Add(time.Minute)); !v.Held() || !strings.Contains(v.String(), "with the 150 before, that is 300 (30 %)") {
		t.Errorf("15 %% behind 15 %% of another Judge: %q", v)
	}
	all = before
	c = change(at, moved(at, 150, 150))
	if v := j.Judge("map/world", c, now.Add(time.Minute)); !v.Held() || !strings.Contains(v.String(), "with the 150 before, that is 300 (30 %)") {
		t.Errorf("15 %% behind 15 %%: %q", v)
	}
	if v := j.Judge("map/world", c, now.Add(11*time.Minute)); v.Held() {
		t.Errorf("15 %% after the window: %s", v)
	}
	// All of it at once goes away.
	if v := j.Judge("map/world", change(at, geo.Map{Name: "world"}), now.Add(11*time.Minute)); !v.Held() || !strings.Contains(v.String(), "move 1,000 of the 1,000 prefixes") {
		t.Errorf("the map goes: %q", v)
	}
	// It stays, and is of no use to anybody.
	if v := j.Judge("map/world", change(at, geo.Map{Name: "world", Entries: at.Entries}), now.Add(11*time.Minute)); !v.Held() || !strings.Contains(v.String(), "move 1,000 of the 1,000 prefixes") {
		t.Errorf("the map has no uses: %q", v)
	}
	// Forty PoPs are drained together.
	var drained reconcile.Change
	for i := range 40 {
		for _, s := range []geo.State{geo.Up, geo.Drained} {
			r, err := geo.PoP{Name: "pop" + string(rune('a'+i%26)) + string(rune('a'+i/26)), State: s}.RRset(geo.Zone)
			if err != nil {
				t.Fatal(err)
			}
			if s == geo.Up {
				drained.Old = append(drained.Old, r)
			} else {
				drained.Put = append(drained.Put, r)
			}
		}
	}
	for _, list := range [][]record.RRset{drained.Old, drained.Put} {
		slices.SortFunc(list, func(a, b record.RRset) int { return a.Key.Compare(b.Key) })
	}
	if v := j.Judge("map/pops", drained, now.Add(12*time.Minute)); v.Held() {
		t.Errorf("PoPs are drained: %s", v)
	}
}
