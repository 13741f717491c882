package presenter

import (
	"strings"
	"testing"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

func guarded(c *Config, _ *Deps) { c.Guards = true }

// held gives the one change that is held.
func held(t *testing.T, st store.Store) tree.Hold {
	t.Helper()
	nodes, _, err := st.List(t.Context(), tree.Holds)
	if err != nil || len(nodes) != 1 {
		t.Fatalf("%d changes are held, want 1; %v", len(nodes), err)
	}
	var h tree.Hold
	if err := tree.Decode(nodes[0], &h); err != nil {
		t.Fatal(err)
	}
	return h
}

func decide(t *testing.T, st store.Store, h tree.Hold, decision string) {
	t.Helper()
	h.Decision = decision
	do(t, st, store.Op{Path: tree.HoldPath(h.ID), Value: tree.Encode(h)})
	settle()
}

// TestHold lets a rule return nothing: it is held and said in words, the others go on, also
// after a restart and for what is lost while nobody leads; a person's word decides, and what
// becomes another change is another hold.
func TestHold(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		other := address("other", 1)
		other.Source = "update/other"
		put(t, st, "zone", zone())
		put(t, st, "all", hosts(100)...)
		put(t, st, "o", other)
		p := run(t, st, guarded)
		defer func() { p.stop(t) }()
		settle()
		before := content(t, st)

		put(t, st, "all")
		settle()
		h := held(t, st)
		if content(t, st) != before || h.Source != ruleSource || h.Removed != 100 || !strings.Contains(strings.Join(h.Why, "\n"), "rule/address would return nothing any more") {
			t.Fatalf("%+v\n%s", h, content(t, st))
		}
		if s := p.Status(); len(s.Waiting) != 1 || !strings.Contains(s.Waiting[0], "zonecast release "+h.ID) {
			t.Fatalf("status says %q", s.Waiting)
		}
		next := byte(2)
		othersGoOn := func() {
			t.Helper()
			other.Data = []record.Rdata{record.Rdata([]byte{192, 0, 2, next})}
			put(t, st, "o", other)
			settle()
			if got := answer(t, st, other.Key); got != other.Data[0] {
				t.Fatalf("another source's change waits, too: %x", got)
			}
			next++
		}
		othersGoOn()
		p.stop(t)
		p = run(t, st, guarded)
		settle()
		if again := held(t, st); again.ID != h.ID || again.Since != h.Since {
			t.Fatalf("after a restart it is held as %+v, before as %+v", again, h)
		}
		othersGoOn()

		put(t, st, "all", hosts(40)...)
		settle()
		half := held(t, st)
		if half.ID == h.ID || half.Removed != 60 {
			t.Fatalf("another change is held as %+v", half)
		}
		decide(t, st, half, "drop")
		if got := published(t, st).Len(); got != 102 {
			t.Fatalf("dropped: %d RRsets", got)
		}
		othersGoOn()
		put(t, st, "all", hosts(99)...) // what it says next is judged by itself
		settle()
		if nodes, _, _ := st.List(t.Context(), tree.Holds); len(nodes) != 0 || published(t, st).Len() != 101 {
			t.Fatalf("%d held, %d RRsets", len(nodes), published(t, st).Len())
		}

		p.stop(t)
		put(t, st, "all", hosts(10)...) // while nobody leads
		p = run(t, st, guarded)
		settle()
		h = held(t, st)
		if h.Removed != 89 || published(t, st).Len() != 101 {
			t.Fatalf("lost while nobody led: %+v, %d RRsets", h, published(t, st).Len())
		}
		decide(t, st, h, "release")
		equalsImport(t, st)
		if nodes, _, _ := st.List(t.Context(), tree.Holds); len(nodes) != 0 {
			t.Fatalf("%d still held", len(nodes))
		}
		put(t, st, "all", hosts(9)...)
		do(t, st, claimtree.Ops(zoneSource, "zone", nil))
		settle()
		if h := held(t, st); h.Source != zoneSource || !strings.Contains(h.Why[0], "take the zone example.net. away") {
			t.Fatalf("%+v", h)
		}
		p.stop(t)
		put(t, st, "zone", zone()) // it comes back to itself while nobody leads
		p = run(t, st, guarded)
		settle()
		if nodes, _, _ := st.List(t.Context(), tree.Holds); len(nodes) != 0 {
			t.Fatalf("%d still held", len(nodes))
		}
		equalsImport(t, st)
		notForked(t, st)
	})
}
