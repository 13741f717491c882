package presenter

import (
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// override puts one in the way control does.
func setOverride(t *testing.T, st store.Store, id string, r record.Claim, until time.Time) {
	t.Helper()
	r.Source = tree.OverrideSource(id)
	o := tree.Override{ID: id, Owner: r.Owner.String(), Type: r.Type.String(), TTL: r.TTL, Set: time.Now().UnixMilli(), Until: until.UnixMilli(), Author: "alice"}
	if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{
		{Path: tree.OverridePath(id), Value: tree.Encode(o)}, claimtree.Ops(r.Source, "0", []record.Claim{r}),
	}}); err != nil {
		t.Fatal(err)
	}
}

func answer(t *testing.T, st store.Store, k record.Key) record.Rdata {
	t.Helper()
	r, ok := published(t, st).Get(k)
	if !ok {
		return ""
	}
	return r.Data[0]
}

// TestOverrideEnds holds that an override is answered until its time is over, to the
// moment, also when that came while no presenter ran, and that its end is noted.
func TestOverrideEnds(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		usual, other := address("www", 1), address("www", 9)
		put(t, st, "1", zone(), usual)
		p := run(t, st)
		settle()
		until := time.Now().Add(time.Minute)
		setOverride(t, st, "o1", other, until)
		settle()
		if got := answer(t, st, usual.Key); got != other.Data[0] {
			t.Fatalf("%x is published, want the override's", got)
		}
		time.Sleep(time.Until(until) - 10*time.Millisecond)
		if got := answer(t, st, usual.Key); got != other.Data[0] {
			t.Fatalf("%x is published 10 ms before the end, want the override's", got)
		}
		time.Sleep(time.Until(until) + 100*time.Millisecond)
		if got := answer(t, st, usual.Key); got != usual.Data[0] {
			t.Fatalf("%x is published after the end, want what is claimed", got)
		}
		setOverride(t, st, "o2", other, time.Now().Add(time.Minute))
		settle()
		p.stop(t)
		time.Sleep(time.Hour)
		p = run(t, st)
		defer p.stop(t)
		time.Sleep(time.Second)
		if got := answer(t, st, usual.Key); got != usual.Data[0] {
			t.Fatalf("%x is published a second after the restart, want what is claimed", got)
		}
		nodes, _, err := st.List(t.Context(), tree.Audit)
		if err != nil || len(nodes) != 2 {
			t.Fatalf("%d audit entries, %v", len(nodes), err)
		}
		var e tree.AuditEntry
		if err := tree.Decode(nodes[1], &e); err != nil || e.Action != "override ended" || e.Subject != "o2" || !strings.Contains(e.Text, "alice") {
			t.Fatalf("%+v, %v", e, err)
		}
		if left, _, _ := st.List(t.Context(), tree.Overrides); len(left) != 0 {
			t.Fatalf("%d overrides left", len(left))
		}
	})
}
