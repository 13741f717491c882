package presenter

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/internal/claimtree"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

func freeze(t *testing.T, st store.Store, id, source string) {
	t.Helper()
	do(t, st, store.Op{Path: tree.FreezePath(id), Value: tree.Encode(tree.Freeze{ID: id, Source: source, Author: "alice", Reason: "test"})})
}

func do(t *testing.T, st store.Store, ops ...store.Op) {
	t.Helper()
	if _, err := st.Commit(t.Context(), store.Txn{Do: ops}); err != nil {
		t.Fatal(err)
	}
}

// TestFreeze holds that a frozen source stays where it was - through restarts, and for what
// it claims while nobody leads -, that others and overrides go on, and that after the thaw
// what it claims by then is published.
func TestFreeze(t *testing.T) {
	bubble(t, func(t *testing.T, st *memstore.Store) {
		www, other := address("www", 1), address("other", 1)
		other.Source = "update/other"
		put(t, st, "zone", zone())
		put(t, st, "a", www)
		put(t, st, "b", other)
		p := run(t, st)
		defer func() { p.stop(t) }()
		settle()
		freeze(t, st, "f1", "rule/*")
		settle()
		holds := func(step string, n byte, others byte) {
			t.Helper()
			settle()
			if got := answer(t, st, www.Key); got != record.Rdata([]byte{192, 0, 2, n}) {
				t.Fatalf("%s: frozen is %x, want %d", step, got, n)
			}
			if got := answer(t, st, other.Key); got != record.Rdata([]byte{192, 0, 2, others}) {
				t.Fatalf("%s: others are %x, want %d", step, got, others)
			}
		}
		other.Data = []record.Rdata{record.Rdata([]byte{192, 0, 2, 2})}
		put(t, st, "a", address("www", 2))
		put(t, st, "b", other)
		holds("while it runs", 1, 2)
		if s := p.Status(); len(s.Waiting) != 1 {
			t.Fatalf("status says %q", s.Waiting)
		}
		p.stop(t)
		put(t, st, "a") // taken away while nobody leads
		p = run(t, st)
		holds("after a restart", 1, 2)
		setOverride(t, st, "o", address("www", 9), time.Now().Add(time.Hour))
		holds("under an override", 9, 2)
		do(t, st, store.Op{Path: tree.OverridePath("o"), Delete: true}, claimtree.Ops(tree.OverrideSource("o"), "0", nil))
		put(t, st, "a", address("www", 3))
		holds("without it", 1, 2)
		do(t, st, store.Op{Path: tree.FreezePath("f1"), Delete: true})
		holds("thawed", 3, 2)
		equalsImport(t, st)
		if s := p.Status(); len(s.Waiting) != 0 {
			t.Fatalf("status says %q", s.Waiting)
		}
		freeze(t, st, "f2", "")
		settle()
		put(t, st, "a", address("www", 4))
		put(t, st, "b")
		holds("all frozen", 3, 2)
		do(t, st, store.Op{Path: tree.FreezePath("f2"), Value: []byte("{")})
		holds("frozen by what cannot be read", 3, 2)
		do(t, st, store.Op{Path: tree.FreezePath("f2"), Delete: true})
		settle()
		equalsImport(t, st)
		notForked(t, st)
	})
}

// TestAdmittedIsMirrored draws claims, freezes, restarts and two presenters at once: what
// is published is always what the admitted claims in the store make, and in the end, with
// nothing frozen, what all claims make.
func TestAdmittedIsMirrored(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.SliceOfN(rapid.IntRange(0, 99), 5, 40).Draw(rt, "steps")
		bubble(t, func(t *testing.T, st *memstore.Store) {
			put(t, st, "zone", zone())
			running := []*running{run(t, st)}
			defer func() {
				for _, r := range running {
					r.stop(t)
				}
			}()
			settle()
			frozen := map[string]bool{}
			for i, n := range seed {
				switch {
				case n < 60:
					c := address(fmt.Sprintf("h%d", n%5), byte(i))
					c.Source = record.Source(fmt.Sprintf("rule/r%d", n%3))
					if n%7 == 0 {
						do(t, st, claimtree.Ops(c.Source, fmt.Sprint(n%4), nil))
					} else {
						do(t, st, claimtree.Ops(c.Source, fmt.Sprint(n%4), []record.Claim{c}))
					}
				case n < 70:
					id := fmt.Sprintf("f%d", n%3)
					frozen[id] = true
					freeze(t, st, id, fmt.Sprintf("rule/r%d", n%3))
				case n < 80:
					id := fmt.Sprintf("f%d", n%3)
					delete(frozen, id)
					do(t, st, store.Op{Path: tree.FreezePath(id), Delete: true})
				case n < 90:
					running[0].stop(t)
					running = append(running[1:], run(t, st))
				case len(running) < 2:
					running = append(running, run(t, st))
				}
				if n%2 == 0 {
					settle()
					mirrored(t, st)
				}
			}
			for id := range frozen {
				do(t, st, store.Op{Path: tree.FreezePath(id), Delete: true})
			}
			settle()
			mirrored(t, st)
			equalsImport(t, st)
			notForked(t, st)
		})
	})
}

// mirrored holds that what is published is what the admitted claims make.
func mirrored(t *testing.T, st store.Store) {
	t.Helper()
	nodes, _, err := st.List(t.Context(), tree.AdmittedPrefix("internal"))
	if err != nil {
		t.Fatal(err)
	}
	s := reconcile.New(reconcile.DefaultPolicy())
	for _, n := range nodes {
		source, shard, ok := tree.SplitAdmitted("internal", n.Path)
		claims, err := record.DecodeShard(n.Value)
		if !ok || err != nil {
			t.Fatal(n.Path, err)
		}
		s.Replace(source, shard, claims)
	}
	s.Reconcile()
	want := maps.Collect(func(yield func(record.Key, record.Rdata) bool) {
		for r := range s.All() {
			if !yield(r.Key, r.Data[0]) {
				return
			}
		}
	})
	got := maps.Collect(func(yield func(record.Key, record.Rdata) bool) {
		for r := range published(t, st).All() {
			if !yield(r.Key, r.Data[0]) {
				return
			}
		}
	})
	if !maps.Equal(want, got) {
		t.Fatalf("published %v, admitted %v", slices.Sorted(maps.Values(got)), slices.Sorted(maps.Values(want)))
	}
}
