package etcd

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/store"
)

func putAt(path string, rev store.Revision) change {
	return change{node: store.Node{Path: path, Created: 1, Modified: rev}}
}

func gone(path string) change { return change{node: store.Node{Path: path}, delete: true} }

// offered runs increments past a reader that takes the first taken batches as they
// come and then sleeps until all increments are there.
func offered(t *testing.T, taken int, incs ...increment) []store.Batch {
	t.Helper()
	var got []store.Batch
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		from, out, done := make(chan increment), make(chan store.Batch), make(chan struct{})
		go func() {
			defer close(done)
			offer(ctx, from, out)
		}()
		for i, inc := range incs {
			from <- inc
			if i < taken {
				got = append(got, <-out)
			}
		}
		for {
			synctest.Wait()
			select {
			case b := <-out:
				got = append(got, b)
				continue
			default:
			}
			break
		}
		cancel()
		<-done
	})
	return got
}

func TestOffer(t *testing.T) {
	first := increment{rev: 5, reset: true, changes: []change{putAt("/b", 4), putAt("/a", 5), putAt("/c", 5)}}
	for name, c := range map[string]struct {
		taken int
		incs  []increment
		want  []store.Batch
	}{
		"reset in order of revision": {1, []increment{first}, []store.Batch{
			{Revision: 5, Reset: true, Puts: []store.Node{putAt("/b", 4).node, putAt("/a", 5).node, putAt("/c", 5).node}},
		}},
		"what comes while one waits is merged": {
			1,
			[]increment{
				first,
				{rev: 6, changes: []change{putAt("/a", 6)}},
				{rev: 7, changes: []change{putAt("/a", 7), gone("/b")}},
				{rev: 8, changes: []change{putAt("/b", 8), gone("/c")}},
				{rev: 9, changes: []change{gone("/b")}},
			},
			[]store.Batch{
				{Revision: 5, Reset: true, Puts: []store.Node{putAt("/b", 4).node, putAt("/a", 5).node, putAt("/c", 5).node}},
				{Revision: 6, Puts: []store.Node{putAt("/a", 6).node}},
				{Revision: 9, Puts: []store.Node{putAt("/a", 7).node}, Deletes: []string{"/b", "/c"}},
			},
		},
		"a reset voids what waits": {
			1,
			[]increment{
				first,
				{rev: 6, changes: []change{putAt("/a", 6)}},
				{rev: 7, changes: []change{putAt("/d", 7)}},
				{rev: 9, reset: true, changes: []change{putAt("/b", 9)}},
				{rev: 10, changes: []change{putAt("/e", 10), gone("/b")}},
			},
			[]store.Batch{
				{Revision: 5, Reset: true, Puts: []store.Node{putAt("/b", 4).node, putAt("/a", 5).node, putAt("/c", 5).node}},
				{Revision: 9, Reset: true, Puts: []store.Node{putAt("/b", 9).node}},
				{Revision: 10, Puts: []store.Node{putAt("/e", 10).node}, Deletes: []string{"/b"}},
			},
		},
		"an empty reset is a batch": {0, []increment{{rev: 1, reset: true}}, []store.Batch{{Revision: 1, Reset: true}}},
	} {
		if diff := cmp.Diff(c.want, offered(t, c.taken, c.incs...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A deletion folded into a reset that has not been taken leaves no trace.
func TestFoldDeleteIntoReset(t *testing.T) {
	var f fold
	f.add(increment{rev: 5, reset: true, changes: []change{putAt("/a", 4), putAt("/b", 5)}})
	f.add(increment{rev: 6, changes: []change{gone("/a")}})
	want := store.Batch{Revision: 6, Reset: true, Puts: []store.Node{putAt("/b", 5).node}}
	if diff := cmp.Diff(want, f.batch()); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
}
