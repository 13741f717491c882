package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/store"
)

// model runs random transactions against the engine and against a map, and holds
// a watcher's view against both.
func (x *suite) model() {
	round := 0
	rapid.Check(x.T, func(t *rapid.T) {
		round++
		root := fmt.Sprintf("/model/%d/", round)
		ctx, cancel := context.WithCancel(x.ctx)
		defer cancel()
		model := make(map[string]store.Node)
		var watched mirror
		w := x.s.Watch(ctx, root, 0)
		watched.apply(x, x.next(w))
		last := watched.rev
		path := rapid.Custom(func(t *rapid.T) string {
			return root + rapid.SampledFrom([]string{"a", "b", "a/b", "c", "c/d/e"}).Draw(t, "path")
		})
		for range rapid.IntRange(1, 12).Draw(t, "transactions") {
			var txn store.Txn
			holds := true
			for _, p := range rapid.SliceOfNDistinct(path, 0, 2, rapid.ID).Draw(t, "conditions") {
				c := store.Cond{Path: p, Modified: model[p].Modified}
				if rapid.IntRange(0, 3).Draw(t, "wrong") == 0 {
					c.Modified += store.Revision(rapid.SampledFrom([]int{-1, 1, 100}).Draw(t, "by"))
					if c.Modified < 0 {
						c.Modified = 5
					}
					holds = false
				}
				txn.If = append(txn.If, c)
			}
			for _, p := range rapid.SliceOfNDistinct(path, 1, 4, rapid.ID).Draw(t, "operations") {
				if rapid.Bool().Draw(t, "delete") {
					txn.Do = append(txn.Do, del(p))
				} else {
					txn.Do = append(txn.Do, put(p, rapid.String().Draw(t, "value")))
				}
			}
			rev, err := x.s.Commit(ctx, txn)
			if !holds {
				if !errors.Is(err, store.ErrConflict) {
					t.Fatalf("Commit %+v: error is %v, expected a conflict", txn, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("Commit %+v: %v", txn, err)
			}
			changed := false
			for _, o := range txn.Do {
				old, there := model[o.Path]
				if o.Delete {
					changed = changed || there
					delete(model, o.Path)
					continue
				}
				changed = true
				n := store.Node{Path: o.Path, Value: slices.Clone(o.Value), Created: rev, Modified: rev}
				if there {
					n.Created = old.Created
				}
				model[o.Path] = n
			}
			if changed && rev <= last {
				t.Fatalf("Commit has revision %d after %d", rev, last)
			}
			if changed {
				last = rev
			}
		}
		var want []store.Node
		for _, n := range model {
			want = append(want, n)
		}
		slices.SortFunc(want, func(a, b store.Node) int { return strings.Compare(a.Path, b.Path) })
		got, rev, err := x.s.List(ctx, root)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("List (-model +engine):\n%s", diff)
		}
		if rev < last {
			t.Fatalf("List has revision %d, expected at least %d", rev, last)
		}
		watched.until(x, w, func() bool { return watched.rev >= last })
		if len(watched.nodes) != len(model) {
			t.Fatalf("the watcher knows%s, expected %d nodes", watched.String(), len(model))
		}
		for p, n := range watched.nodes {
			if diff := cmp.Diff(model[p], n, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%s as the watcher knows it (-model +watcher):\n%s", p, diff)
			}
		}
	})
}
