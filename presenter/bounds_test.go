package presenter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/guard"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
)

// TestSetGuard changes bounds while it leads: the next change is judged by them, also after
// it has led again; bad ones are refused and change nothing.
func TestSetGuard(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		put(t, st, "zone", zone())
		put(t, st, "all", hosts(100)...)
		p := run(t, st, guarded)
		defer func() { p.stop(t) }()
		settle()
		waits := func() int {
			t.Helper()
			nodes, _, err := st.List(t.Context(), tree.Holds)
			if err != nil {
				t.Fatal(err)
			}
			return len(nodes)
		}
		put(t, st, "all", hosts(90)...)
		settle()
		if waits() != 0 {
			t.Fatal("10 of 100 are held by the defaults")
		}
		b := guard.DefaultBounds()
		b.Few = 1
		b.Zone.Removed = guard.Bound{Percent: 1, Floor: 1, Ceiling: 5}
		if err := p.SetGuard(b); err != nil {
			t.Fatal(err)
		}
		settle()
		put(t, st, "all", hosts(85)...)
		settle()
		if waits() != 1 {
			t.Error("5 more are not held by bounds of 1 %")
		}
		node, err := st.Get(t.Context(), tree.GuardsPath("internal"))
		if err != nil {
			t.Fatal(err)
		}
		if told, err := guard.Decode(node.Value); err != nil || cmp.Diff(told, b) != "" {
			t.Errorf("told %s (%v)", node.Value, err)
		}
		if text, err := (&Config{}).encodeBounds(b); err != nil {
			t.Error(err)
		} else if told, err := guard.Decode(text); err != nil || told.Window != 0 {
			t.Errorf("without guards %s is told (%v)", text, err)
		}
		bad := b
		bad.Window = 0
		if err := p.SetGuard(bad); err == nil {
			t.Error("a window of nothing was taken")
		}
		long := b
		for i := range 1000 {
			long.Protect = append(long.Protect, name(fmt.Sprintf("%s%d.example.net.", strings.Repeat("x", 60), i)))
		}
		if err := p.SetGuard(long); err == nil || !strings.Contains(err.Error(), "at most 65536: protect fewer names") {
			t.Errorf("bounds that do not fit into a node: %v", err)
		}
		p.cancelTerm(t, st)
		put(t, st, "all", hosts(90)...)
		settle()
		put(t, st, "all", hosts(84)...)
		settle()
		if waits() != 1 {
			t.Error("after another term the bounds are others")
		}
		if err := p.SetGuard(guard.DefaultBounds()); err != nil {
			t.Fatal(err)
		}
		settle()
		put(t, st, "all", hosts(83)...)
		settle()
		if waits() != 0 {
			t.Error("with the defaults again 7 are held")
		}
	})
}

// cancelTerm lets the presenter lose its leadership and win it again.
func (r *running) cancelTerm(t tb, st *memstore.Store) {
	t.Helper()
	st.SetAvailable(false)
	settle()
	st.SetAvailable(true)
	settle()
}
