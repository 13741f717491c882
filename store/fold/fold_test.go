package fold

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/bubbletest"
	"github.com/zonecast/zonecast/store"
)

func putAt(path string, rev store.Revision) Change {
	return Change{Node: store.Node{Path: path, Created: 1, Modified: rev}}
}

func gone(path string) Change { return Change{Node: store.Node{Path: path}, Delete: true} }

// offered runs increments past a reader that takes the first taken batches as they
// come and then sleeps until all increments are there.
func offered(t *testing.T, taken int, incs ...Increment) []store.Batch {
	t.Helper()
	var got []store.Batch
	bubbletest.Run(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		from, out, done := make(chan Increment), make(chan store.Batch), make(chan struct{})
		go func() {
			defer close(done)
			Offer(ctx, from, out)
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
	first := Increment{Revision: 5, Reset: true, Changes: []Change{putAt("/b", 4), putAt("/a", 5), putAt("/c", 5)}}
	for name, c := range map[string]struct {
		taken int
		incs  []Increment
		want  []store.Batch
	}{
		"reset in order of revision": {1, []Increment{first}, []store.Batch{
			{Revision: 5, Reset: true, Puts: []store.Node{putAt("/b", 4).Node, putAt("/a", 5).Node, putAt("/c", 5).Node}},
		}},
		"what comes while one waits is merged": {
			1,
			[]Increment{
				first,
				{Revision: 6, Changes: []Change{putAt("/a", 6)}},
				{Revision: 7, Changes: []Change{putAt("/a", 7), gone("/b")}},
				{Revision: 8, Changes: []Change{putAt("/b", 8), gone("/c")}},
				{Revision: 9, Changes: []Change{gone("/b")}},
			},
			[]store.Batch{
				{Revision: 5, Reset: true, Puts: []store.Node{putAt("/b", 4).Node, putAt("/a", 5).Node, putAt("/c", 5).Node}},
				{Revision: 6, Puts: []store.Node{putAt("/a", 6).Node}},
				{Revision: 9, Puts: []store.Node{putAt("/a", 7).Node}, Deletes: []string{"/b", "/c"}},
			},
		},
		"a reset voids what waits": {
			1,
			[]Increment{
				first,
				{Revision: 6, Changes: []Change{putAt("/a", 6)}},
				{Revision: 7, Changes: []Change{putAt("/d", 7)}},
				{Revision: 9, Reset: true, Changes: []Change{putAt("/b", 9)}},
				{Revision: 10, Changes: []Change{putAt("/e", 10), gone("/b")}},
			},
			[]store.Batch{
				{Revision: 5, Reset: true, Puts: []store.Node{putAt("/b", 4).Node, putAt("/a", 5).Node, putAt("/c", 5).Node}},
				{Revision: 9, Reset: true, Puts: []store.Node{putAt("/b", 9).Node}},
				{Revision: 10, Puts: []store.Node{putAt("/e", 10).Node}, Deletes: []string{"/b"}},
			},
		},
		"an empty reset is a batch": {0, []Increment{{Revision: 1, Reset: true}}, []store.Batch{{Revision: 1, Reset: true}}},
	} {
		if diff := cmp.Diff(c.want, offered(t, c.taken, c.incs...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// A deletion folded into a reset that has not been taken leaves no trace.
func TestFoldDeleteIntoReset(t *testing.T) {
	var f fold
	f.add(Increment{Revision: 5, Reset: true, Changes: []Change{putAt("/a", 4), putAt("/b", 5)}})
	f.add(Increment{Revision: 6, Changes: []Change{gone("/a")}})
	want := store.Batch{Revision: 6, Reset: true, Puts: []store.Node{putAt("/b", 5).Node}}
	if diff := cmp.Diff(want, f.batch()); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
}
