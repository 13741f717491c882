package proxied

import (
	"context"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/fold"
	"github.com/zonecast/zonecast/store/wire"
)

// watch goes on over connections. What is not said otherwise is guarded by Store.mu.
type watch struct {
	prefix string
	rev    store.Revision // up to which the reader is given everything
	parts  [][]byte       // of the batch under way
	size   int
	ctx    context.Context
	to     chan fold.Increment
}

// Watch is store.Store.Watch.
func (s *Store) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	out := make(chan store.Batch)
	s.mu.Lock()
	if s.closed || store.CheckPrefix(prefix) != nil {
		s.mu.Unlock()
		close(out)
		return out
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	w := &watch{prefix: prefix, rev: from, ctx: ctx, to: make(chan fold.Increment)}
	s.nextID++
	id := s.nextID
	s.watches[id] = w
	c := s.conn
	s.wg.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		defer close(out)
		defer stop()
		defer cancel()
		if c != nil {
			// Where there is none, or it breaks, the next one is told of all watches.
			_ = c.write(wire.Frame{Kind: wire.Watch, ID: id, Payload: wire.AppendWatch(nil, prefix, from)}.Append(nil))
		}
		fold.Offer(ctx, w.to, out)
		s.mu.Lock()
		delete(s.watches, id)
		c := s.conn
		s.mu.Unlock()
		if c != nil {
			_ = c.write(wire.Frame{Kind: wire.Unwatch, ID: id}.Append(nil)) // a broken one has no watches
		}
	}()
	return out
}

// batch gives a batch to its watch.
func (s *Store) batch(f wire.Frame) error {
	s.mu.Lock()
	w := s.watches[f.ID]
	var parts [][]byte
	if w != nil {
		parts, w.parts, w.size = w.parts, nil, 0
	}
	s.mu.Unlock()
	if w == nil {
		return nil // it has ended
	}
	b, err := wire.ParseBatch(f.Payload)
	if err != nil {
		return err
	}
	nodes, err := nodesOf(parts)
	if err != nil {
		return err
	}
	inc := fold.Increment{Revision: b.Revision, Reset: b.Reset, Changes: make([]fold.Change, 0, len(nodes)+len(b.Puts)+len(b.Deletes))}
	for _, n := range append(nodes, b.Puts...) {
		inc.Changes = append(inc.Changes, fold.Change{Node: n})
	}
	for _, p := range b.Deletes {
		inc.Changes = append(inc.Changes, fold.Change{Node: store.Node{Path: p}, Delete: true})
	}
	s.mu.Lock()
	w.rev = b.Revision
	s.mu.Unlock()
	_ = fold.Send(w.ctx, w.to, inc) // the watch has ended: nobody wants it
	return nil
}
