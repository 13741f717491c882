package guard_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/record"
)

// TestRestore has a robot that takes one RRset away a second, and after each of them another
// Judge: it holds what one Judge that saw everything holds.
func TestRestore(t *testing.T) {
	const z, source = "example.net.", record.Source("update/key")
	all := hosts(z, 0, 1000)
	d := newDataset(join(zone(z), all)...)
	one := d.judge(t, guard.DefaultBounds(), map[record.Source]int{source: len(all)})
	type noted struct {
		at     time.Time
		counts []guard.Count
	}
	var past []noted
	made, held, now := len(all), 0, start
	for i := range 900 {
		now = now.Add(time.Second)
		next := d.judge(t, guard.DefaultBounds(), map[record.Source]int{source: made})
		for _, n := range past {
			for _, c := range n.counts {
				next.Restore(c, n.at)
			}
		}
		c := d.change(nil, all[i])
		want, got := one.Judge(source, c, now), next.Judge(source, c, now)
		if want.Held() != got.Held() {
			t.Fatalf("change %d: held %v (%s), by a Judge that was there from the beginning %v (%s)", i, got.Held(), got, want.Held(), want)
		}
		if want.Held() {
			held++
			continue
		}
		counts := one.Accept(source, c, now)
		if len(counts) != 1 || counts[0].Removed != 1 {
			t.Fatalf("change %d counts as %+v, want one removed", i, counts)
		}
		past = append(past, noted{now, counts})
		d.apply(c)
		made--
	}
	if held == 0 || len(past) <= 100 {
		t.Errorf("%d held and %d let through, expected a hundred, then some held, then more", held, len(past))
	}
}

// TestFork has a fork judge as a Judge that is made anew does, by the bounds it is given.
func TestFork(t *testing.T) {
	const z, source = "example.net.", record.Source("rule/address")
	all := hosts(z, 0, 200)
	d := newDataset(join(zone(z), all)...)
	base := d.judge(t, guard.DefaultBounds(), nil)
	base.Accept("rule/other", d.change(nil, all[100:120]...), start) // counts in base, and in no fork
	for _, r := range all[100:120] {
		delete(d, r.Key)
	}
	b := guard.DefaultBounds()
	b.Source.Removed = guard.Bound{Percent: 5, Floor: 10, Ceiling: 15}
	fork, err := base.Fork(b)
	if err != nil {
		t.Fatal(err)
	}
	fork.Attribute(source, 180)
	fresh := d.judge(t, b, map[record.Source]int{source: 180})
	for _, n := range []int{1, 10, 11, 60} {
		c := d.change(nil, all[:n]...)
		got, want := fork.Judge(source, c, start), fresh.Judge(source, c, start)
		if got.String() != want.String() || got.Held() != (n > 10) {
			t.Errorf("%d removed: a fork says %q, a new judge %q", n, got, want)
		}
	}
	if _, err := base.Fork(guard.Bounds{}); err == nil {
		t.Error("a fork with bounds that make no sense")
	}
}

// TestWhy: the words of a hold are bounded.
func TestWhy(t *testing.T) {
	v := guard.Verdict{}
	if v.Why() != nil {
		t.Errorf("nothing is wrong, and why is %q", v.Why())
	}
	for range 25 {
		v.Trips = append(v.Trips, guard.Trip{Text: strings.Repeat("ä", 1500)})
	}
	why := v.Why()
	if len(why) != 21 || why[20] != "and 5 more of the kind" || len(why[0]) > 2003 || !utf8.ValidString(why[0]) {
		t.Errorf("%d sentences, the first of %d octets, the last %q", len(why), len(why[0]), why[len(why)-1])
	}
	v.Trips = []guard.Trip{{Text: "short"}}
	if got := v.Why(); len(got) != 1 || got[0] != "short" {
		t.Errorf("%q", got)
	}
}
