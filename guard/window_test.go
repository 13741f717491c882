package guard_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// TestLeases has 2,000 leases that run out in a second: at once, and as 100 changes of
// 20. Of 30,000 servers that is less than a tenth, so that the ceiling holds them.
func TestLeases(t *testing.T) {
	const z = "example.net."
	for _, servers := range []int{2500, 30_000} {
		for _, parts := range []int{1, 100} {
			t.Run(fmt.Sprintf("%d servers, %d changes", servers, parts), func(t *testing.T) {
				d := newDataset(join(zone(z), hosts(z, 0, servers))...)
				j := d.judge(t, guard.DefaultBounds(), map[record.Source]int{"rule/fleet": servers})
				gone, held := 0, guard.Verdict{}
				for i := range parts {
					now := start.Add(time.Duration(i) * time.Second / time.Duration(parts))
					c := d.change(nil, hosts(z, i*2000/parts, 2000/parts)...)
					if v := j.Judge("rule/fleet", c, now); v.Held() {
						if !held.Held() {
							held = v
						}
						continue
					}
					j.Accept("rule/fleet", c, now)
					d.apply(c)
					gone += len(c.Remove)
				}
				most := min(servers/10, 1000)
				if gone > most || parts > 1 && gone < most-20 {
					t.Errorf("%d went, expected at most %d, and in small changes not much fewer", gone, most)
				}
				if !held.Held() {
					t.Fatal("nothing was held")
				}
				want := fmt.Sprintf("rule/fleet would remove 2,000 of %s RRsets of example.net.", comma(servers))
				if parts > 1 {
					want = fmt.Sprintf("rule/fleet would remove 20 RRsets of example.net.; with the %s before, that is %s of %s (", comma(gone), comma(gone+20), comma(servers))
				}
				if got := held.String(); !strings.HasPrefix(got, want) {
					t.Errorf("got:  %s\nwant: %s…", got, want)
				}
			})
		}
	}
}

func comma(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// TestSlowRobot has robots that take one RRset away a second, and one every two
// seconds, for a long time: within ten minutes they take 600, which 5,000 hold, and
// 300, which they do not.
func TestSlowRobot(t *testing.T) {
	const z = "example.net."
	for _, c := range []struct {
		every time.Duration
		held  bool
	}{{time.Second, true}, {2 * time.Second, false}} {
		all := hosts(z, 0, 5000)
		d := newDataset(join(zone(z), all)...)
		j := d.judge(t, guard.DefaultBounds(), map[record.Source]int{"update/key": 5000})
		held, now := 0, start
		for i := range 1500 {
			now = now.Add(c.every)
			c := d.change(nil, all[i])
			if v := j.Judge("update/key", c, now); v.Held() {
				held++
				continue
			}
			j.Accept("update/key", c, now)
			d.apply(c)
		}
		if (held > 0) != c.held {
			t.Errorf("one every %v: %d held", c.every, held)
		}
	}
}

// TestFlapping has one server that comes and goes, and one service whose addresses
// change, all the time: that is one RRset, however often.
func TestFlapping(t *testing.T) {
	const z = "example.net."
	d := newDataset(join(zone(z), hosts(z, 0, 20))...)
	j := d.judge(t, guard.DefaultBounds(), nil)
	now := start
	do := func(c reconcile.Change) {
		t.Helper()
		now = now.Add(time.Second)
		if v := j.Judge("rule/fleet", c, now); v.Held() {
			t.Fatalf("after %v: %s", now.Sub(start), v)
		}
		j.Accept("rule/fleet", c, now)
		d.apply(c)
	}
	one := hosts(z, 7, 1)
	for i := range uint32(2000) {
		do(d.change(nil, one...))
		do(d.change(one))
		do(d.change([]record.RRset{a("h00008."+z, 3600, i)}))
	}
	// It goes on to count: with nine more, ten are gone, and no eleventh may go.
	do(d.change(nil, hosts(z, 10, 9)...))
	do(d.change(nil, one...))
	if v := j.Judge("rule/fleet", d.change(nil, hosts(z, 19, 1)...), now.Add(time.Second)); !v.Held() {
		t.Error("the eleventh of a zone of 20 goes")
	}
	// The flapping one leaves the window when it has stopped for as long.
	if v := j.Judge("rule/fleet", d.change(nil, hosts(z, 19, 1)...), now.Add(11*time.Minute)); v.Held() {
		t.Errorf("eleven minutes later: %s", v)
	}
}

// TestManySources has what no source alone exceeds.
func TestManySources(t *testing.T) {
	var sets []record.RRset
	for i := range 20 {
		z := fmt.Sprintf("z%02d.example.", i)
		sets = append(sets, join(zone(z), hosts(z, 0, 100))...)
	}
	d := newDataset(sets...)
	j := d.judge(t, guard.DefaultBounds(), nil)
	var got []string
	for i := range 20 {
		z := fmt.Sprintf("z%02d.example.", i)
		source := record.Source("update/" + z)
		c := d.change(nil, hosts(z, 0, 20)...)
		v := j.Judge(source, c, start)
		if !v.Held() {
			j.Accept(source, c, start)
			d.apply(c)
			continue
		}
		got = append(got, v.Trips[0].Text)
	}
	want := "update/z10.example. would remove 20 RRsets of the dataset; with the 200 before, by all sources, that is 220 of 2,000 (11 %) within 10m; " +
		"at most 200 are let through within 10m (overall-removed is 10% 50..5000): 20 A; for example h00000.z10.example. A 10.0.0.0, h00009.z10.example. A 10.0.0.9, h00019.z10.example. A 10.0.0.19"
	if len(got) != 10 || got[0] != want {
		t.Errorf("%d held, the first:\n%s\nwant 10:\n%s", len(got), got[:min(1, len(got))], want)
	}
}

// TestNeverMore: whatever the order and the grouping of removals, and whoever's, what
// gets through within a window never exceeds the bounds; and to judge changes nothing.
func TestNeverMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const z = "example.net."
		bounds := guard.DefaultBounds()
		bounds.Window = time.Minute
		bounds.Few = 2
		size := rapid.IntRange(2, 200).Draw(t, "size")
		percent := rapid.IntRange(0, 30).Draw(t, "percent")
		floor := rapid.IntRange(1, 20).Draw(t, "floor")
		bound := guard.Bound{Percent: percent, Floor: floor, Ceiling: rapid.IntRange(max(floor, 2), 40).Draw(t, "ceiling")}
		bounds.Zone.Removed, bounds.Source.Removed = bound, bound
		bounds.Overall.Removed = guard.Bound{Percent: percent, Floor: floor + 5, Ceiling: 45}
		all := hosts(z, 0, size)
		d := newDataset(join(zone(z), all)...)
		sources := []record.Source{"update/a", "rule/b", "zone/c"}
		made := map[record.Source]int{}
		for _, s := range sources {
			made[s] = size
		}
		j, err := guard.New(bounds, d.all, made)
		if err != nil {
			t.Fatal(err)
		}
		seed := rapid.Uint64().Draw(t, "seed")
		rand.New(rand.NewPCG(seed, 1)).Shuffle(size, func(i, k int) { all[i], all[k] = all[k], all[i] })
		type passed struct {
			at     time.Time
			source record.Source
			n      int
		}
		var through []passed
		now := start
		for len(all) > 0 {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "pause")) * time.Millisecond)
			n := rapid.IntRange(1, min(len(all), 30)).Draw(t, "group")
			source := rapid.SampledFrom(sources).Draw(t, "source")
			c := d.change(nil, all[:n]...)
			all = all[n:]
			v := j.Judge(source, c, now)
			if again := j.Judge(source, c, now); again.String() != v.String() || again.Held() != v.Held() {
				t.Fatalf("judged twice: %s, then %s", v, again)
			}
			if v.Held() {
				continue
			}
			j.Accept(source, c, now)
			d.apply(c)
			through = append(through, passed{now, source, n})
		}
		for i, p := range through {
			// All that went within a window that ends with p.
			inZone, overall, before := 0, 0, size
			for _, q := range through[:i+1] {
				if !q.at.After(p.at.Add(-bounds.Window)) {
					before -= q.n
					continue
				}
				overall += q.n
				if q.source == p.source {
					inZone += q.n
				}
			}
			let := func(b guard.Bound, floor int) int { return min(max(before*b.Percent/100, floor, 2), b.Ceiling) }
			if most := let(bounds.Zone.Removed, min(floor, before/2)); inZone > most {
				t.Fatalf("%s removed %d of %d within a window, at most %d", p.source, inZone, before, most)
			}
			if most := let(bounds.Overall.Removed, floor+5); overall > most {
				t.Fatalf("all removed %d of %d within a window, at most %d", overall, before, most)
			}
		}
	})
}

// TestClockGoesBack: a clock that goes back lets nothing more through, and lets things
// through again as time goes on from there.
func TestClockGoesBack(t *testing.T) {
	const z = "example.net."
	d := newDataset(join(zone(z), hosts(z, 0, 40))...)
	j := d.judge(t, guard.DefaultBounds(), nil)
	c := d.change(nil, hosts(z, 0, 20)...)
	if v := j.Judge("update/key", c, start); v.Held() {
		t.Fatal(v)
	}
	j.Accept("update/key", c, start)
	d.apply(c)
	back := start.Add(-24 * time.Hour)
	c = d.change(nil, hosts(z, 20, 5)...)
	if v := j.Judge("update/key", c, back); !v.Held() {
		t.Error("a day earlier more than half goes")
	}
	touch := d.change([]record.RRset{a("other."+z, 300, 1)})
	j.Accept("update/key", touch, back)
	d.apply(touch)
	if v := j.Judge("update/key", c, back.Add(9*time.Minute)); !v.Held() {
		t.Error("within the window more than half goes")
	}
	if v := j.Judge("update/key", c, back.Add(11*time.Minute)); v.Held() {
		t.Errorf("after the window: %s", v)
	}
}

// TestYoungZone: what is created in a zone that was empty when the window began is not
// counted, in however many changes; what is created later is.
func TestYoungZone(t *testing.T) {
	const z = "example.net."
	d := newDataset()
	j := d.judge(t, guard.DefaultBounds(), nil)
	now := start
	do := func(c reconcile.Change) guard.Verdict {
		v := j.Judge("zone/a", c, now)
		if !v.Held() {
			j.Accept("zone/a", c, now)
			d.apply(c)
		}
		return v
	}
	do(d.change(zone(z)))
	for i := range 10 {
		if v := do(d.change(hosts(z, i*6000, 6000))); v.Held() {
			t.Fatal(v)
		}
		now = now.Add(30 * time.Second)
	}
	now = now.Add(11 * time.Minute)
	if v := do(d.change(hosts(z, 60_000, 60_001))); !v.Held() {
		t.Error("the zone doubles")
	}
	if v := do(d.change(hosts(z, 60_000, 29_000))); v.Held() {
		t.Error(v)
	}
}

func TestExpectations(t *testing.T) {
	const z = "example.net."
	all := hosts(z, 0, 1000)
	d := newDataset(join(zone(z), all, zone("example.org."), hosts("example.org.", 0, 1000))...)
	j := d.judge(t, guard.DefaultBounds(), map[record.Source]int{"rule/fleet": 1000, "rule/other": 1000})
	do := func(source record.Source, c reconcile.Change, now time.Time) guard.Verdict {
		v := j.Judge(source, c, now)
		if !v.Held() {
			j.Accept(source, c, now)
			d.apply(c)
		}
		return v
	}
	if err := j.Expect(guard.Expectation{ID: "7", Zone: name(z), Removals: 500, Until: start.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	left := func(want ...int) {
		t.Helper()
		var got []int
		for _, e := range j.Expectations(start) {
			got = append(got, e.Removals)
		}
		if !slices.Equal(got, want) {
			t.Errorf("left are %v, want %v", got, want)
		}
	}
	// 500 announced, and 100 let through anyway; not of another zone.
	v := do("rule/fleet", d.change(nil, all[:601]...), start)
	want := "rule/fleet would remove 101 of 1,000 RRsets of example.net. (10 %); at most 100 are let through within 10m (zone-removed is 10% 25..1000) besides 500 that were announced: 601 A; "
	if got := v.String(); !strings.HasPrefix(got, want) {
		t.Errorf("got:  %s\nwant: %s", got, want)
	}
	left(500)
	if v := do("rule/other", d.change(nil, hosts("example.org.", 0, 101)...), start); !v.Held() {
		t.Error("another zone's removals go through")
	}
	if v := do("rule/fleet", d.change(nil, all[:300]...), start); v.Held() {
		t.Error(v)
	}
	left(200)
	if v := do("rule/fleet", d.change(nil, all[300:570]...), start); v.Held() {
		t.Error(v)
	}
	left()
	// 430 are left, of which with the 70 before at most 50 may go.
	if v := do("rule/fleet", d.change(nil, all[570:580]...), start); !v.Held() {
		t.Error("what was announced is used up, and more goes")
	}
	// It does not lift what is always held, and it ends.
	if err := j.Expect(guard.Expectation{ID: "8", Source: "rule/fleet", Removals: 1000, Until: start.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if v := j.Judge("rule/fleet", d.change(nil, all[570:]...), start); !v.Held() || v.Trips[0].Kind != guard.Emptied {
		t.Errorf("an announced change empties the zone: %s", v)
	}
	if v := j.Judge("rule/fleet", d.change(nil, all[570:900]...), start.Add(59*time.Minute)); v.Held() {
		t.Error(v)
	}
	if v := j.Judge("rule/fleet", d.change(nil, all[570:900]...), start.Add(time.Hour)); !v.Held() {
		t.Error("it lasts longer than it was to")
	}
	if !j.Unexpect("8") || j.Unexpect("8") {
		t.Error("it is not taken back once")
	}
	if v := j.Judge("rule/fleet", d.change(nil, all[570:900]...), start); !v.Held() {
		t.Error("it was taken back")
	}
	for _, e := range []guard.Expectation{
		{},
		{ID: "1", Removals: 1, Until: start},
		{ID: "1", Zone: name(z), Until: start},
		{ID: "1", Zone: name(z), Removals: -1, Until: start},
		{ID: "1", Zone: name(z), Removals: 1},
		{ID: "1", Source: "nonsense", Removals: 1, Until: start},
	} {
		if err := j.Expect(e); err == nil {
			t.Errorf("%+v makes sense", e)
		} else {
			t.Log(err)
		}
	}
}

// TestAdmit: what a person let through uses nothing up.
func TestAdmit(t *testing.T) {
	const z = "example.net."
	all := hosts(z, 0, 9000)
	d := newDataset(join(zone(z), all)...)
	j := d.judge(t, guard.DefaultBounds(), map[record.Source]int{"rule/fleet": 9000})
	c := d.change(nil, all[:4500]...)
	if v := j.Judge("rule/fleet", c, start); !v.Held() {
		t.Fatal("half of it goes")
	}
	j.Admit("rule/fleet", c, start)
	d.apply(c)
	if got := j.Size(); got != 4500 {
		t.Errorf("size is %d, want 4500", got)
	}
	for _, n := range []int{450, 451} {
		if v := j.Judge("rule/fleet", d.change(nil, all[4500:4500+n]...), start); v.Held() != (n > 450) {
			t.Errorf("%d more: %s", n, v)
		}
	}
}

// BenchmarkJudge is a judgement of a change that goes through, in a dataset of 200,000
// RRsets, after others; and of one that does not, with its words.
// TestSetBounds changes bounds while something counts: the next change is judged by the new
// ones, what was counted stays as long as the new window says, and bounds that make no sense
// change nothing.
func TestSetBounds(t *testing.T) {
	const z = "example.net."
	d := newDataset(join(zone(z), hosts(z, 0, 1000))...)
	b := guard.DefaultBounds()
	j := d.judge(t, b, map[record.Source]int{"rule/fleet": 1000})
	next, now := 0, start
	// held tells whether removing n more would be held, and removes them if not.
	held := func(n int) bool {
		t.Helper()
		c := d.change(nil, hosts(z, next, n)...)
		if v := j.Judge("rule/fleet", c, now); v.Held() {
			return true
		}
		j.Accept("rule/fleet", c, now)
		d.apply(c)
		next += n
		return false
	}
	set := func(change func(*guard.Bounds)) {
		t.Helper()
		change(&b)
		if err := j.SetBounds(b); err != nil {
			t.Fatal(err)
		}
	}
	if held(80) || !held(30) {
		t.Fatal("bounds of 10 % of 1,000 are not those")
	}
	set(func(b *guard.Bounds) { b.Zone.Removed = guard.Bound{Percent: 5, Floor: 25, Ceiling: 1000} })
	if !held(1) {
		t.Error("81 of 1,000 are not held by 5 %")
	}
	bad := b
	bad.Few, bad.Zone = 0, guard.Limits{}
	if err := j.SetBounds(bad); err == nil || !held(1) {
		t.Errorf("bounds that make no sense: error %v, or they are in force", err)
	}
	set(func(b *guard.Bounds) {
		b.Zone.Removed = guard.Bound{Percent: 10, Floor: 25, Ceiling: 1000}
		b.Protect = []record.Name{name(fmt.Sprintf("*.%s", z))}
	})
	if !held(1) {
		t.Error("protected names are not held")
	}
	set(func(b *guard.Bounds) { b.Protect = nil })
	if held(1) || !held(30) {
		t.Error("with the first bounds again it is not as it was")
	}
	for _, window := range []time.Duration{time.Hour, time.Second, 7 * time.Minute, 24 * time.Hour} {
		set(func(b *guard.Bounds) { b.Window = window })
		if !held(30) {
			t.Errorf("with a window of %v what was counted in this second is forgotten", window)
		}
	}
	now = now.Add(30 * time.Minute)
	if !held(30) {
		t.Error("a window of 24 hours forgets after 30 minutes")
	}
	set(func(b *guard.Bounds) { b.Window = 10 * time.Minute })
	if held(30) {
		t.Error("a window of 10 minutes counts what was 30 minutes ago")
	}
}

func BenchmarkJudge(b *testing.B) {
	const z = "a.rather.long.zone.example.net."
	all := hosts(z, 0, 200_000)
	d := newDataset(join(zone(z), all)...)
	j := d.judge(b, guard.DefaultBounds(), map[record.Source]int{"rule/fleet": 200_000})
	for i := range 500 {
		c := d.change(nil, all[i])
		j.Accept("rule/fleet", c, start.Add(time.Duration(i)*time.Second))
		d.apply(c)
	}
	now := start.Add(500 * time.Second)
	put := func(first, n int) reconcile.Change {
		sets := hosts(z, first, n)
		for i := range sets {
			sets[i].TTL = 7200
		}
		return d.change(sets)
	}
	for _, c := range []struct {
		name   string
		change reconcile.Change
		held   bool
	}{
		{"remove1", d.change(nil, all[600]), false},
		{"replace1", put(601, 1), false},
		{"create10000", d.change(hosts(z, 200_000, 10_000)), false},
		{"replace10000", put(1000, 10_000), true},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if j.Judge("rule/fleet", c.change, now).Held() != c.held {
					b.Fatal(c.held)
				}
			}
		})
	}
	// Alike for Accept, which is also what follows sizes.
	b.Run("accept1", func(b *testing.B) {
		b.ReportAllocs()
		c := put(601, 1)
		for b.Loop() {
			j.Accept("rule/fleet", c, now)
		}
	})
}
