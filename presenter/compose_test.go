package presenter

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
)

// composeSlowly is what compose does, by a map.
func composeSlowly(all []reconcile.Change) reconcile.Change {
	if len(all) == 1 {
		return all[0]
	}
	type ends struct{ was, is *record.RRset }
	keys := map[record.Key]*ends{}
	for c := range all {
		change := &all[c]
		at := func(k record.Key, was *record.RRset) *ends {
			e := keys[k]
			if e == nil {
				e = &ends{was: was}
				keys[k] = e
			}
			return e
		}
		old := make(map[record.Key]*record.RRset, len(change.Old))
		for i := range change.Old {
			old[change.Old[i].Key] = &change.Old[i]
		}
		for i := range change.Put {
			r := &change.Put[i]
			at(r.Key, old[r.Key]).is = r
		}
		for _, k := range change.Remove {
			at(k, old[k]).is = nil
		}
	}
	var out reconcile.Change
	for _, k := range slices.SortedFunc(maps.Keys(keys), record.Key.Compare) {
		e := keys[k]
		switch {
		case e.was != nil && e.is != nil && e.was.Equal(*e.is), e.was == nil && e.is == nil:
			continue
		case e.is == nil:
			out.Remove = append(out.Remove, k)
		default:
			out.Put = append(out.Put, *e.is)
		}
		if e.was != nil {
			out.Old = append(out.Old, *e.was)
		}
	}
	return out
}

// TestCompose makes random changes of a dataset, one after the other.
func TestCompose(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := map[record.Key]record.RRset{}
		var all []reconcile.Change
		for range rapid.IntRange(0, 9).Draw(t, "changes") {
			before := maps.Clone(now)
			for range rapid.IntRange(0, 6).Draw(t, "RRsets") {
				r := address(fmt.Sprint("h", rapid.IntRange(0, 9).Draw(t, "host")), byte(rapid.IntRange(0, 2).Draw(t, "address"))).RRset
				if rapid.Bool().Draw(t, "goes") {
					delete(now, r.Key)
				} else {
					now[r.Key] = r
				}
			}
			inOrder := func(m map[record.Key]record.RRset) []record.RRset {
				return slices.SortedFunc(maps.Values(m), func(a, b record.RRset) int { return a.Key.Compare(b.Key) })
			}
			all = append(all, difference(slices.Values(inOrder(before)), slices.Values(inOrder(now))))
		}
		if diff := cmp.Diff(composeSlowly(all), compose(all), cmp.Comparer(func(a, b reconcile.Change) bool { return fmt.Sprint(a) == fmt.Sprint(b) })); diff != "" {
			t.Fatal(diff)
		}
	})
}
