package presenter

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

func announce(t *testing.T, st store.Store, id string, removals int, length time.Duration) {
	t.Helper()
	do(t, st, store.Op{Path: tree.ExpectPath(id), Value: tree.Encode(tree.Expect{
		ID: id, Dataset: "internal", Zone: "example.net.", Source: ruleSource, Left: tree.Left{Removals: removals},
		Set: time.Now().UnixMilli(), Until: time.Now().Add(length).UnixMilli(), Author: "alice",
	})})
	settle()
}

// left reads what is left of an expectation; false when nothing of it was used.
func left(t *testing.T, st store.Store, id string) (l tree.Left, used bool) {
	t.Helper()
	n, err := st.Get(t.Context(), tree.ExpectedPath(id))
	if err != nil {
		return l, false
	}
	if err := tree.Decode(n, &l); err != nil {
		t.Fatal(err)
	}
	return l, true
}

func holds(t *testing.T, st store.Store) int {
	t.Helper()
	nodes, _, err := st.List(t.Context(), tree.Holds)
	if err != nil {
		t.Fatal(err)
	}
	return len(nodes)
}

// TestExpect announces a mass removal: as many RRsets go, over a restart, and no more; what
// is held already is looked at again; what was not used ends at its time and is noted.
func TestExpect(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		put(t, st, "all", hosts(100)...)
		p := run(t, st, guarded)
		defer func() { p.stop(t) }()
		settle()
		announce(t, st, "e1", 60, time.Hour)
		if _, used := left(t, st, "e1"); used {
			t.Fatal("something is used up before anything came")
		}
		put(t, st, "all", hosts(65)...)
		settle()
		if l, _ := left(t, st, "e1"); l.Removals != 25 || holds(t, st) != 0 || published(t, st).Len() != 66 {
			t.Fatalf("%+v are left, %d held, %d RRsets", l, holds(t, st), published(t, st).Len())
		}
		p.stop(t)
		p = run(t, st, guarded)
		settle()
		put(t, st, "all", hosts(40)...)
		settle()
		if l, used := left(t, st, "e1"); l.Removals != 0 || !used || holds(t, st) != 0 || published(t, st).Len() != 41 {
			t.Fatalf("after a restart %+v are left, %d held, %d RRsets", l, holds(t, st), published(t, st).Len())
		}
		put(t, st, "all", hosts(10)...)
		settle()
		if h := held(t, st); h.Removed != 30 {
			t.Fatalf("used up, and then %+v is held", h)
		}
		announce(t, st, "e2", 29, time.Hour)
		if holds(t, st) != 0 || published(t, st).Len() != 11 {
			t.Fatalf("announced afterwards: %d held, %d RRsets", holds(t, st), published(t, st).Len())
		}
		announce(t, st, "e3", 500, time.Hour)
		put(t, st, "all")
		settle()
		if h := held(t, st); !strings.Contains(strings.Join(h.Why, "\n"), "example.net.") {
			t.Fatalf("the zone is emptied: %+v", h)
		}
		p.stop(t)
		time.Sleep(2 * time.Hour)
		p = run(t, st, guarded)
		settle()
		for _, prefix := range []string{tree.Expects, tree.Expected} {
			if nodes, _, _ := st.List(t.Context(), prefix); len(nodes) != 0 {
				t.Errorf("after their end there are %d nodes in %s", len(nodes), prefix)
			}
		}
		var ended []string
		nodes, _, _ := st.List(t.Context(), tree.Audit)
		for _, n := range nodes {
			var e tree.AuditEntry
			if err := tree.Decode(n, &e); err != nil {
				t.Fatal(err)
			}
			ended = append(ended, e.Action+" "+e.Subject+": "+e.Text)
		}
		if text := strings.Join(ended, "\n"); len(ended) != 5 || strings.Count(text, "held ") != 2 || !strings.Contains(text, "expectation ended e1: announced by alice, its time is over: of 60 removals, 0 replacements and 0 creations 0, 0 and 0 did not come") ||
			!strings.Contains(text, "ended e3: announced by alice, its time is over: of 500 removals, 0 replacements and 0 creations 500,") {
			t.Errorf("the audit has\n%s", text)
		}
		notForked(t, st)
	})
}

// TestExpectTakenBack takes an expectation back: what is left of it goes, too.
func TestExpectTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		put(t, st, "all", hosts(100)...)
		p := run(t, st, guarded)
		defer func() { p.stop(t) }()
		settle()
		announce(t, st, "e1", 60, time.Hour)
		put(t, st, "all", hosts(60)...)
		settle()
		if l, _ := left(t, st, "e1"); l.Removals != 20 {
			t.Fatalf("%+v are left", l)
		}
		do(t, st, store.Op{Path: tree.ExpectPath("e1"), Delete: true})
		settle()
		if _, used := left(t, st, "e1"); used {
			t.Error("what is left of it is still there")
		}
		put(t, st, "all", hosts(30)...)
		settle()
		if h := held(t, st); h.Removed != 30 {
			t.Errorf("taken back, and %+v is held", h)
		}
	})
}

// TestGuardsRemember spreads a mass removal over terms of several leaders: what they let
// through within the window counts together.
func TestGuardsRemember(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		put(t, st, "all", hosts(100)...)
		p := run(t, st, guarded)
		settle()
		for n := 94; ; n -= 6 {
			put(t, st, "all", hosts(n)...)
			settle()
			p.stop(t)
			p = run(t, st, guarded)
			settle()
			if holds(t, st) > 0 {
				if n != 70 { // 25 of 100 are let through
					t.Errorf("held with %d of 100 left, want with 70", n)
				}
				break
			}
			if n < 50 {
				t.Fatal("half of the zone went in a few minutes, and nothing is held")
			}
		}
		p.stop(t)
		// The window goes on from what was counted, it does not begin anew.
		put(t, st, "all", hosts(76)...)
		time.Sleep(11 * time.Minute)
		p = run(t, st, guarded)
		defer func() { p.stop(t) }()
		settle()
		put(t, st, "all", hosts(70)...)
		settle()
		if holds(t, st) != 0 || published(t, st).Len() != 71 {
			t.Errorf("eleven minutes later: %d held, %d RRsets", holds(t, st), published(t, st).Len())
		}
	})
}

// TestCountedIsBounded: a version that changes a thousand zones is noted in few words, and
// nothing is lost of what counts.
func TestCountedIsBounded(t *testing.T) {
	g := newGate()
	for i := range 1000 {
		for _, s := range []string{"rule/a", "rule/b"} {
			g.counted = append(g.counted, tree.Counted{Source: tree.OverrideSource(s), Zone: string(rune('a'+i%26)) + strings.Repeat("x", i/26) + ".", Removed: i})
		}
	}
	for i := range 1000 {
		g.counted = append(g.counted, tree.Counted{Source: "map/world", Map: string(rune('a' + i%3)), Moved: i})
	}
	nodes := g.countedNodes()
	moved := map[string]int{}
	nodes = slices.DeleteFunc(nodes, func(c tree.Counted) bool { moved[c.Map] += c.Moved; return c.Map != "" })
	if moved["a"] != 166_833 || moved["b"] != 166_167 || moved["c"] != 166_500 { // every third of 0 to 999
		t.Errorf("moved by map %v", moved)
	}
	sum := map[string]int{}
	for _, c := range nodes {
		sum[string(c.Source)] += c.Removed
	}
	if len(nodes) > 2*maxCounted+1 || sum["override/rule/a"] != 999*1000/2 || sum["override/rule/b"] != 999*1000/2 {
		t.Errorf("%d counts, together %v", len(nodes), sum)
	}
}
