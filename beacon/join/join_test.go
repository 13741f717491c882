package join

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/rtt"
)

var start = time.Unix(1_800_000_000, 0)

func key(kind rtt.Kind, n int) rtt.Key {
	k, _ := rtt.OfAddr(kind, netip.AddrFrom4([4]byte{198, 51, byte(n), 1}))
	return k
}

// stream is what comes of some measurements in a simulation: lost, late, repeated and in any order.
type stream struct {
	at   time.Duration
	ask  *Asked
	told *Reported
}

// TestStreams: whatever is lost, repeated or late on either way, each measurement whose report
// comes in comes out once, at the first report's values, with exactly the askers that were heard
// before its grace was over.
func TestStreams(t *testing.T) {
	c := Config{Keep: 150 * time.Second, Grace: 5 * time.Second, Most: 1000}
	rapid.Check(t, func(t *rapid.T) {
		var events []stream
		n := rapid.IntRange(1, 12).Draw(t, "measurements")
		for id := range n {
			began := time.Duration(rapid.IntRange(0, 60_000).Draw(t, "began")) * time.Millisecond
			late := func(what string) time.Duration {
				return began + time.Duration(rapid.IntRange(0, 60_000).Draw(t, what))*time.Millisecond
			}
			for range rapid.IntRange(0, 5).Draw(t, "queries") { // 0: all of them are lost
				kind := rapid.SampledFrom([]rtt.Kind{rtt.Client, rtt.Resolver}).Draw(t, "kind")
				events = append(events, stream{at: late("query"), ask: &Asked{uint64(id), key(kind, rapid.IntRange(0, 3).Draw(t, "resolver"))}})
			}
			for range rapid.IntRange(0, 3).Draw(t, "reports") { // 0: it is lost; more: repeated
				events = append(events, stream{at: late("report"), told: &Reported{
					ID: uint64(id), Client: key(rtt.Client, id), Times: []Time{{fmt.Sprint("pop", len(events)), time.Millisecond}},
				}})
			}
		}
		slices.SortStableFunc(events, func(a, b stream) int { return cmp.Compare(a.at, b.at) })

		// What has to come out, found with all of it at hand.
		type outcome struct {
			target string
			by     []rtt.Key
		}
		want := map[uint64]outcome{}
		when := map[uint64]time.Duration{}
		for _, e := range events {
			if e.told != nil {
				if _, ok := when[e.told.ID]; !ok {
					when[e.told.ID], want[e.told.ID] = e.at, outcome{target: e.told.Times[0].Target}
				}
			}
		}
		for _, e := range events {
			if e.ask == nil {
				continue
			}
			o, ok := want[e.ask.ID]
			// It is looked after at each event, so a grace ends at the first event behind it.
			if ok && e.at-when[e.ask.ID] < c.Grace && !slices.Contains(o.by, e.ask.By) && len(o.by) < maxAskers {
				o.by = append(o.by, e.ask.By)
				want[e.ask.ID] = o
			}
		}

		j, got := New(c), map[uint64]outcome{}
		take := func(x Joined) {
			if _, twice := got[x.ID]; twice {
				t.Fatalf("%d came out twice", x.ID)
			}
			got[x.ID] = outcome{x.Times[0].Target, x.By}
			if x.Client != key(rtt.Client, int(x.ID)) || !x.At.Equal(start.Add(when[x.ID])) {
				t.Fatalf("%d is of %v at %v", x.ID, x.Client, x.At)
			}
		}
		reports := map[uint64]int{}
		for _, e := range events {
			now := start.Add(e.at)
			j.Expire(now, take)
			if e.ask != nil {
				if err := j.Asked(*e.ask, now); err != nil {
					t.Fatal(err)
				}
				continue
			}
			err := j.Reported(*e.told, now)
			if reports[e.told.ID]++; (reports[e.told.ID] > 1) != errors.Is(err, ErrRepeated) {
				t.Fatalf("report %d of %d: %v", reports[e.told.ID], e.told.ID, err)
			}
		}
		j.Expire(start.Add(time.Hour), take)
		j.Expire(start.Add(time.Hour), take)
		if j.Len() != 0 || j.first.front() != nil || j.waiting.front() != nil {
			t.Errorf("%d are left", j.Len())
		}
		for id, w := range want {
			if g := got[id]; g.target != w.target || !slices.Equal(g.by, w.by) {
				t.Errorf("%d: %+v, expected %+v", id, g, w)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d came out, expected %d", len(got), len(want))
		}
		asked := map[uint64]bool{}
		for _, e := range events {
			if e.ask != nil && reports[e.ask.ID] == 0 {
				asked[e.ask.ID] = true
			}
		}
		if j.Unreported() != uint64(len(asked)) {
			t.Errorf("%d without a report, expected %d", j.Unreported(), len(asked))
		}
	})
}

// A flood finds its bound, and repeats nothing: what was reported is known as long as before.
func TestFlood(t *testing.T) {
	c := Config{Keep: 100 * time.Second, Grace: time.Second, Most: 100}
	j := New(c)
	if err := j.Reported(Reported{ID: 1}, start); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range 10_000 {
		now := start.Add(time.Duration(i) * time.Millisecond)
		j.Expire(now, func(Joined) {})
		if err := j.Asked(Asked{ID: uint64(i + 2), By: key(rtt.Resolver, 1)}, now); err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			refused++
		}
		if j.Len() > c.Most {
			t.Fatalf("%d are known", j.Len())
		}
	}
	if refused != 10_000-99 || !j.Full() {
		t.Errorf("%d refused", refused)
	}
	if err := j.Reported(Reported{ID: 1}, start.Add(99*time.Second)); !errors.Is(err, ErrRepeated) {
		t.Errorf("a repeated report: %v", err)
	}
	if err := j.Reported(Reported{ID: 50_000}, start.Add(99*time.Second)); !errors.Is(err, ErrFull) {
		t.Errorf("a report that finds no room: %v", err)
	}
	j.Expire(start.Add(200*time.Second), func(Joined) {})
	if j.Len() != 0 || j.Full() || j.Unreported() != 99 {
		t.Errorf("%d are known, %d went without a report", j.Len(), j.Unreported())
	}
}

// A long life takes no more memory than what is known at a time.
func TestQueueShrinks(t *testing.T) {
	j := New(Config{Keep: time.Second, Grace: time.Millisecond, Most: 1 << 20})
	for i := range 200_000 {
		now := start.Add(time.Duration(i) * time.Millisecond)
		j.Expire(now, func(Joined) {})
		if err := j.Reported(Reported{ID: uint64(i)}, now); err != nil {
			t.Fatal(err)
		}
	}
	if n := cap(j.first.all); n > 8192 {
		t.Errorf("a queue of 1000 has room for %d", n)
	}
}
