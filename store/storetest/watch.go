package storetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/store"
)

func paths(nodes []store.Node) []string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.Path)
	}
	slices.Sort(out)
	return out
}

// gather takes batches until n puts and deletes have come.
func (x *suite) gather(c <-chan store.Batch, n int) (puts []store.Node, deletes []string) {
	x.Helper()
	for len(puts)+len(deletes) < n {
		b := x.next(c)
		if b.Reset {
			x.Errorf("batch of revision %d is a Reset, expected none", b.Revision)
		}
		puts, deletes = append(puts, b.Puts...), append(deletes, b.Deletes...)
	}
	return puts, deletes
}

func (x *suite) watchFromZero() {
	x.commit(x.s, do(put("/w/b", "1")))
	rev := x.commit(x.s, do(put("/w/a", "1")))
	w := x.s.Watch(x.ctx, "/w/", 0)
	b := x.next(w)
	if !b.Reset || b.Revision < rev {
		x.Errorf("first batch: Reset %t, revision %d, expected a Reset of %d or later", b.Reset, b.Revision, rev)
	}
	if diff := cmp.Diff([]string{"/w/b", "/w/a"}, []string{b.Puts[0].Path, b.Puts[1].Path}); diff != "" || len(b.Puts) != 2 {
		x.Errorf("first batch, in order of revision (-want +got):\n%s", diff)
	}
	rev = x.commit(x.s, do(put("/w/a", "2"), del("/w/b"), put("/w/c", "1")))
	b = x.next(w)
	want := store.Batch{Revision: rev, Deletes: []string{"/w/b"}, Puts: []store.Node{
		{Path: "/w/a", Value: []byte("2"), Created: b.Puts[0].Created, Modified: rev},
		{Path: "/w/c", Value: []byte("1"), Created: rev, Modified: rev},
	}}
	if diff := cmp.Diff(want, b); diff != "" {
		x.Errorf("second batch (-want +got):\n%s", diff)
	}
}

func (x *suite) watchEmpty() {
	w := x.s.Watch(x.ctx, "/w/", 0)
	b := x.next(w)
	if !b.Reset || len(b.Puts) != 0 {
		x.Errorf("first batch of an empty tree: Reset %t with %d nodes, expected an empty Reset", b.Reset, len(b.Puts))
	}
	// Its revision is one from which a watch can go on.
	x.commit(x.s, do(put("/w/a", "1")))
	puts, _ := x.gather(x.s.Watch(x.ctx, "/w/", b.Revision), 1)
	if diff := cmp.Diff([]string{"/w/a"}, paths(puts)); diff != "" {
		x.Errorf("watch from the empty Reset (-want +got):\n%s", diff)
	}
}

func (x *suite) watchPrefix() {
	w := x.s.Watch(x.ctx, "/w/", 0)
	x.next(w)
	x.commit(x.s, do(put("/w", "no"), put("/w0", "no"), put("/w!/a", "no"), put("/v/a", "no")))
	x.commit(x.s, do(put("/w/a/b/c", "yes"), put("/x/a", "no")))
	puts, _ := x.gather(w, 1)
	if diff := cmp.Diff([]string{"/w/a/b/c"}, paths(puts)); diff != "" {
		x.Errorf("watch of /w/ (-want +got):\n%s", diff)
	}
	b := x.next(x.s.Watch(x.ctx, "/", 0))
	if diff := cmp.Diff([]string{"/v/a", "/w", "/w!/a", "/w/a/b/c", "/w0", "/x/a"}, paths(b.Puts)); diff != "" {
		x.Errorf("watch of / (-want +got):\n%s", diff)
	}
}

func (x *suite) watchFromRevision() {
	x.commit(x.s, do(put("/w/old", "1"), put("/w/gone", "1")))
	from := x.commit(x.s, do(put("/w/a", "1")))
	x.commit(x.s, do(put("/w/b", "1")))
	x.commit(x.s, do(del("/w/gone")))
	w := x.s.Watch(x.ctx, "/w/", from)
	puts, deletes := x.gather(w, 2)
	if diff := cmp.Diff([]string{"/w/b"}, paths(puts)); diff != "" {
		x.Errorf("puts after revision %d (-want +got):\n%s", from, diff)
	}
	if diff := cmp.Diff([]string{"/w/gone"}, deletes); diff != "" {
		x.Errorf("deletes after revision %d (-want +got):\n%s", from, diff)
	}
	x.commit(x.s, do(put("/w/c", "1")))
	puts, _ = x.gather(w, 1)
	if diff := cmp.Diff([]string{"/w/c"}, paths(puts)); diff != "" {
		x.Errorf("the watch goes on (-want +got):\n%s", diff)
	}
}

// watchWithoutGaps: a reader that stops and goes on from the last revision again
// and again, while others write, misses nothing.
func (x *suite) watchWithoutGaps() {
	const writers, each = 3, 30
	first := x.next(x.s.Watch(x.ctx, "/w/", 0))
	done := make(chan error, writers)
	for i := range writers {
		go func() {
			for k := range each {
				if _, err := x.s.Commit(x.ctx, do(put(fmt.Sprintf("/w/%d-%03d", i, k), "1"))); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	seen := make(map[string]int)
	from := first.Revision
	for len(seen) < writers*each {
		ctx, cancel := context.WithCancel(x.ctx)
		w := x.s.Watch(ctx, "/w/", from)
		for range 3 {
			b := x.next(w)
			if b.Reset || b.Revision <= from {
				x.Fatalf("batch after revision %d: Reset %t, revision %d", from, b.Reset, b.Revision)
			}
			for _, n := range b.Puts {
				seen[n.Path]++
			}
			from = b.Revision
			if len(seen) >= writers*each {
				break
			}
		}
		cancel()
	}
	for range writers {
		if err := <-done; err != nil {
			x.Fatal(err)
		}
	}
	for p, n := range seen {
		if n != 1 {
			x.Errorf("%s was seen %d times, expected once", p, n)
		}
	}
}

// watchSlowReader: who does not read gets merged batches, not all of them.
func (x *suite) watchSlowReader() {
	w := x.s.Watch(x.ctx, "/w/", 0)
	var m mirror
	m.apply(x, x.next(w))
	const rounds = 200
	var last store.Revision
	for i := range rounds {
		last = x.commit(x.s, do(put(fmt.Sprintf("/w/%d", i%5), fmt.Sprint(i)), put("/w/all", fmt.Sprint(i)), put("/w/gone", "1")))
	}
	last = max(last, x.commit(x.s, do(del("/w/gone"))))
	// A fast watcher of the same client shows when everything has arrived.
	fast := x.s.Watch(x.ctx, "/w/", last-1)
	x.next(fast)
	batches := 0
	for m.rev < last {
		m.apply(x, x.next(w))
		batches++
	}
	if batches > rounds/2 {
		x.Errorf("a reader that slept through %d commits got %d batches, expected them merged", rounds, batches)
	}
	want, _, err := x.s.List(x.ctx, "/w/")
	if err != nil {
		x.Fatal(err)
	}
	if len(want) != len(m.nodes) {
		x.Errorf("the reader knows%s, expected the %d nodes %v", m.String(), len(want), paths(want))
	}
	for _, n := range want {
		if diff := cmp.Diff(n, m.nodes[n.Path]); diff != "" {
			x.Errorf("%s as the slow reader knows it (-want +got):\n%s", n.Path, diff)
		}
	}
}

// watchWholeCommits: two nodes always written together are never seen apart.
func (x *suite) watchWholeCommits() {
	readers := []<-chan store.Batch{x.s.Watch(x.ctx, "/w/", 0), x.s.Watch(x.ctx, "/w/", 0)}
	const rounds = 150
	done := make(chan error, 1)
	go func() {
		for i := range rounds {
			var txn store.Txn
			for k := range 50 {
				txn.Do = append(txn.Do, put(fmt.Sprintf("/w/%02d", k), fmt.Sprint(i+1)))
			}
			if _, err := x.s.Commit(x.ctx, txn); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for r, w := range readers {
		var m mirror
		m.until(x, w, func() bool {
			for p, n := range m.nodes {
				if string(n.Value) != m.value("/w/00") {
					x.Fatalf("reader %d, revision %d: %s is %q and /w/00 is %q, though always written together", r, m.rev, p, n.Value, m.value("/w/00"))
				}
			}
			return m.value("/w/00") == fmt.Sprint(rounds)
		})
	}
	if err := <-done; err != nil {
		x.Fatal(err)
	}
}

func (x *suite) watchCompacted() {
	if x.opts.Compact == nil {
		x.Skip("the engine has no Compact")
	}
	from := x.commit(x.s, do(put("/w/a", "1"), put("/w/gone", "1")))
	x.commit(x.s, do(put("/w/a", "2")))
	last := x.commit(x.s, do(del("/w/gone"), put("/w/b", "1")))
	x.opts.Compact(x.T, x.s)
	w := x.s.Watch(x.ctx, "/w/", from)
	b := x.next(w)
	if !b.Reset || b.Revision < last {
		x.Errorf("watch from a forgotten revision: Reset %t, revision %d, expected a Reset of %d or later", b.Reset, b.Revision, last)
	}
	if diff := cmp.Diff([]string{"/w/a", "/w/b"}, paths(b.Puts)); diff != "" {
		x.Errorf("Reset (-want +got):\n%s", diff)
	}
	x.commit(x.s, do(put("/w/c", "1")))
	puts, _ := x.gather(w, 1)
	if diff := cmp.Diff([]string{"/w/c"}, paths(puts)); diff != "" {
		x.Errorf("the watch goes on (-want +got):\n%s", diff)
	}
}

// watchFuture: a revision the store does not have yet is from another life of it
// (restored from an older copy), so what the watcher knows is void.
func (x *suite) watchFuture() {
	rev := x.commit(x.s, do(put("/w/a", "1")))
	b := x.next(x.s.Watch(x.ctx, "/w/", rev+1_000_000))
	if !b.Reset {
		x.Errorf("watch from a revision in the future: no Reset")
	}
	if diff := cmp.Diff([]string{"/w/a"}, paths(b.Puts)); diff != "" {
		x.Errorf("Reset (-want +got):\n%s", diff)
	}
}

// watchReconnects: a disconnection is not seen but as a delay.
func (x *suite) watchReconnects() {
	if x.opts.SetAvailable == nil {
		x.Skip("the engine has no SetAvailable")
	}
	w := x.s.Watch(x.ctx, "/w/", 0)
	var m mirror
	m.apply(x, x.next(w))
	for i := range 3 {
		x.opts.SetAvailable(x.T, x.s, false)
		x.opts.SetAvailable(x.T, x.s, true)
		v := fmt.Sprint(i)
		x.commitAgain(do(put("/w/a", v)))
		for m.value("/w/a") != v {
			b := x.next(w)
			if b.Reset {
				x.Errorf("a Reset after a short disconnection, expected none")
			}
			m.apply(x, b)
		}
	}
	// A watch begun while the engine is away starts when it is back.
	x.opts.SetAvailable(x.T, x.s, false)
	w = x.s.Watch(x.ctx, "/w/", 0)
	select {
	case b := <-w:
		x.Errorf("a batch %+v from an engine that is away", b)
	case <-time.After(300 * time.Millisecond):
	}
	x.opts.SetAvailable(x.T, x.s, true)
	if b := x.next(w); !b.Reset || len(b.Puts) != 1 {
		x.Errorf("first batch: Reset %t with %d nodes, expected a Reset with one", b.Reset, len(b.Puts))
	}
}

// commitAgain commits through a disconnection; txn must bear being done twice.
func (x *suite) commitAgain(txn store.Txn) store.Revision {
	x.Helper()
	deadline := time.Now().Add(patience)
	for {
		rev, err := x.s.Commit(x.ctx, txn)
		if err == nil {
			return rev
		}
		if time.Now().After(deadline) {
			x.Fatalf("Commit: %v", err)
		}
	}
}

// watchLostHistory: history forgotten while the watcher was away is a Reset.
func (x *suite) watchLostHistory() {
	if x.opts.SetAvailable == nil || x.opts.Compact == nil {
		x.Skip("the engine has no SetAvailable or no Compact")
	}
	x.commit(x.s, do(put("/w/gone", "1"), put("/w/a", "1")))
	w := x.s.Watch(x.ctx, "/w/", 0)
	var m mirror
	m.apply(x, x.next(w))
	x.opts.SetAvailable(x.T, x.s, false)
	x.opts.Compact(x.T, x.s) // moves the history past what the watcher has seen
	x.opts.SetAvailable(x.T, x.s, true)
	x.commitAgain(do(del("/w/gone"), put("/w/a", "2")))
	m.until(x, w, func() bool { return m.value("/w/a") == "2" })
	if _, there := m.nodes["/w/gone"]; there {
		x.Error("the watcher missed the deletion of /w/gone")
	}
}

func (x *suite) watchEnds() {
	ctx, cancel := context.WithCancel(x.ctx)
	w := x.s.Watch(ctx, "/w/", 0)
	x.next(w)
	idle := x.s.Watch(ctx, "/w/", 0) // never read: its batch is pending
	cancel()
	for _, c := range []<-chan store.Batch{w, idle} {
		deadline := time.After(patience)
		for open := true; open; {
			select {
			case _, open = <-c:
			case <-deadline:
				x.Fatal("the watch goes on though its ctx has ended")
			}
		}
	}
	for _, bad := range []string{"", "/w", "w/"} {
		select {
		case b, open := <-x.s.Watch(x.ctx, bad, 0):
			if open {
				x.Errorf("watch of the bad prefix %q gave %+v, expected a closed channel", bad, b)
			}
		case <-time.After(patience):
			x.Errorf("watch of the bad prefix %q hangs, expected a closed channel", bad)
		}
	}
}
