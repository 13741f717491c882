package simstore

import (
	"context"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/store"
)

// watcher gathers what its reader has not taken yet.
type watcher struct {
	c      *Client
	prefix string
	news   chan struct{} // holds one

	epoch   int
	seen    store.Revision   // everything up to here is in pending or was sent
	last    store.Revision   // newest revision in pending
	reset   bool             // pending is the whole state
	pending map[string]entry // Path is empty where it was deleted
}

// poke has the watcher look.
func (w *watcher) poke() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// Watch is store.Store.Watch.
func (c *Client) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	out := make(chan store.Batch)
	t := c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.shut || store.CheckPrefix(prefix) != nil {
		close(out)
		return out
	}
	w := &watcher{c: c, prefix: prefix, news: make(chan struct{}, 1), epoch: t.epoch, seen: from, pending: map[string]entry{}}
	f := t.feeds[prefix]
	if f == nil {
		f = &feed{watchers: map[*watcher]bool{}}
		for _, h := range t.history {
			if slices.ContainsFunc(h.changes, func(ch change) bool { return strings.HasPrefix(ch.path, prefix) }) {
				f.revs = append(f.revs, h.rev)
			}
		}
		t.feeds[prefix] = f
	}
	if c.watchers == nil {
		c.watchers = map[*watcher]bool{}
	}
	f.watchers[w], c.watchers[w] = true, true
	w.poke()
	c.wg.Go(func() {
		defer close(out)
		defer func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			delete(f.watchers, w)
			delete(c.watchers, w)
		}()
		w.run(ctx, f, out)
	})
	return out
}

func (w *watcher) run(ctx context.Context, f *feed, out chan<- store.Batch) {
	t := w.c.t
	for {
		var to chan<- store.Batch // nil, which blocks, while there is nothing to say
		var b store.Batch
		if w.reset || len(w.pending) > 0 {
			to, b = out, w.batch()
		}
		select {
		case <-ctx.Done():
			return
		case <-w.c.closed:
			return
		case to <- b:
			w.reset = false
			clear(w.pending)
		case <-w.news:
			t.mu.Lock()
			wait := t.delay()
			t.mu.Unlock()
			if wait > 0 && w.c.pass(ctx, wait) != nil {
				return
			}
			w.fold(f)
		}
	}
}

// fold takes what happened since seen, as far as the client's replica knows it, into pending.
func (w *watcher) fold(f *feed) {
	t := w.c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if !w.c.linked || !t.reachable(w.c) {
		return // relink pokes
	}
	oldest := t.rev + 1
	if len(t.history) > 0 {
		oldest = t.history[0].rev
	}
	if w.epoch != t.epoch || w.seen == 0 || w.seen+1 < oldest || w.seen > t.rev {
		clear(w.pending)
		for _, n := range t.below(w.prefix, t.rev) { // as List does

			w.pending[n.Path] = entry{Node: n}
			t.load.now.Octets += len(n.Value)
		}
		w.epoch, w.reset, w.seen, w.last = t.epoch, true, t.rev, t.rev
		t.load.count(&t.load.now.Resets, 1)
		return
	}
	limit := t.applied[w.c.replica]
	if limit <= w.seen {
		return
	}
	at, _ := slices.BinarySearch(f.revs, w.seen+1)
	for _, rev := range f.revs[at:] {
		if rev > limit {
			break
		}
		for _, ch := range t.history[rev-oldest].changes {
			if !strings.HasPrefix(ch.path, w.prefix) {
				continue
			}
			if ch.now.Path == "" && w.reset {
				delete(w.pending, ch.path)
			} else {
				w.pending[ch.path] = ch.now
			}
			t.load.now.Octets += len(ch.now.Value)
			w.last = rev
		}
	}
	w.seen = limit
	t.load.count(&t.load.now.Batches, 1)
}

func (w *watcher) batch() store.Batch {
	b := store.Batch{Revision: w.last, Reset: w.reset}
	for p, e := range w.pending {
		if e.Path == "" {
			b.Deletes = append(b.Deletes, p)
		} else {
			n := e.Node
			n.Value = slices.Clone(n.Value)
			b.Puts = append(b.Puts, n)
		}
	}
	slices.SortFunc(b.Puts, func(a, b store.Node) int {
		if a.Modified != b.Modified {
			return int(a.Modified - b.Modified)
		}
		return strings.Compare(a.Path, b.Path)
	})
	slices.Sort(b.Deletes)
	return b
}
