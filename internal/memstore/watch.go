package memstore

import (
	"context"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/store"
)

// Watch is store.Store.Watch.
func (s *Store) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	out := make(chan store.Batch)
	s.tree.mu.Lock()
	open := s.sessions != nil
	if open {
		s.wg.Add(1)
	}
	s.tree.mu.Unlock()
	if !open || store.CheckPrefix(prefix) != nil {
		if open {
			s.wg.Done()
		}
		close(out)
		return out
	}
	go func() {
		defer s.wg.Done()
		defer close(out)
		w := watcher{prefix: prefix, seen: from, pending: make(map[string]change)}
		for {
			changed := w.fold(s.tree)
			var to chan<- store.Batch // nil, which blocks, while there is nothing to say
			var b store.Batch
			if w.reset || len(w.pending) > 0 {
				to, b = out, w.batch()
			}
			select {
			case <-ctx.Done():
				return
			case <-s.closed:
				return
			case <-changed:
			case to <- b:
				w.reset = false
				clear(w.pending)
			}
		}
	}()
	return out
}

// watcher gathers what its reader has not taken yet.
type watcher struct {
	prefix  string
	seen    store.Revision // everything up to here is in pending or was sent
	last    store.Revision // newest revision in pending
	reset   bool           // pending is the whole state
	pending map[string]change
}

// fold takes what happened since seen into pending and returns the channel that
// is closed when there is more.
func (w *watcher) fold(t *tree) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.down || w.seen == t.rev {
		return t.changed
	}
	if w.seen == 0 || w.seen < t.compacted || w.seen > t.rev {
		clear(w.pending)
		for _, n := range t.below(w.prefix) {
			w.pending[n.Path] = change{node: n}
		}
		w.reset, w.seen, w.last = true, t.rev, t.rev
		return t.changed
	}
	i, _ := slices.BinarySearchFunc(t.history, w.seen+1, func(c commit, r store.Revision) int { return int(c.rev - r) })
	for _, c := range t.history[i:] {
		for _, ch := range c.changes {
			if !strings.HasPrefix(ch.node.Path, w.prefix) {
				continue
			}
			if ch.delete && w.reset {
				delete(w.pending, ch.node.Path)
			} else {
				w.pending[ch.node.Path] = ch
			}
			w.last = c.rev
		}
	}
	w.seen = t.rev
	return t.changed
}

func (w *watcher) batch() store.Batch {
	b := store.Batch{Revision: w.last, Reset: w.reset}
	for p, ch := range w.pending {
		if ch.delete {
			b.Deletes = append(b.Deletes, p)
		} else {
			b.Puts = append(b.Puts, clone(ch.node))
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
