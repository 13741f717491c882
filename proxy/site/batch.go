package site

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/zonecast/zonecast/store"
)

// batch is what goes in one transaction.
type batch struct {
	txn    store.Txn
	wishes []*wish
	paths  []string
	sent   map[string]report // as they were when they were sent
}

// next gathers what fits in one transaction; nil: there is nothing to write.
func (r *reports) next() *batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue)+len(r.dirty) > 0 {
		b := r.gather()
		if len(b.txn.Do) > 0 {
			return b
		}
		for _, w := range b.wishes { // said already, with others, or nothing to say
			w.rev = r.last
			close(w.done)
		}
	}
	return nil
}

// cost is what a report adds to a transaction: octets, and operations with conditions. One that the
// store never had costs nothing; one that goes unless it is somebody else's by now, a condition.
func (n *report) cost(path string) (octets, ops int) {
	switch {
	case n.owner != nil:
		return len(path) + len(n.value), 1
	case n.any || n.rev == 0 && n.maybe:
		return len(path), 1
	case n.rev > 0:
		return 2 * len(path), 2
	}
	return 0, 0
}

// gather takes the wishes that are first, or, when there are none, what else is dirty. The
// caller holds mu.
func (r *reports) gather() *batch {
	b := &batch{sent: map[string]report{}}
	octets, count := 0, 0
	fits := func(paths []string) bool {
		o, c := octets, count
		for _, p := range paths {
			n := r.nodes[p]
			if _, have := b.sent[p]; have || n == nil || !r.dirty[p] {
				continue
			}
			size, ops := n.cost(p)
			o, c = o+size, c+ops
		}
		return o <= store.MaxTxnBytes && c <= store.MaxTxnOps
	}
	add := func(p string) {
		n := r.nodes[p]
		if _, have := b.sent[p]; have || n == nil || !r.dirty[p] {
			return
		}
		size, ops := n.cost(p)
		if ops == 0 {
			r.drop(p, n)
			return
		}
		b.sent[p], b.paths = *n, append(b.paths, p)
		octets, count = octets+size, count+ops
		if n.owner != nil {
			b.txn.Do = append(b.txn.Do, store.Op{Path: p, Value: n.value})
			return
		}
		if ops > 1 {
			b.txn.If = append(b.txn.If, store.Cond{Path: p, Modified: n.rev})
		}
		b.txn.Do = append(b.txn.Do, store.Op{Path: p, Delete: true})
	}
	for len(r.queue) > 0 {
		w := r.queue[0]
		if len(w.txn.If) > 0 {
			if len(b.wishes) == 0 {
				r.queue, r.queued = r.queue[1:], r.queued-w.size
				return &batch{txn: w.txn, wishes: []*wish{w}}
			}
			break
		}
		if !fits(w.paths) {
			if len(b.wishes) > 0 {
				break
			}
			// More than a transaction takes, which only a session's end can be: in pieces.
			for _, p := range w.paths {
				if fits([]string{p}) {
					add(p)
				}
			}
			if len(b.txn.Do) > 0 {
				return b
			}
		}
		for _, p := range w.paths {
			add(p)
		}
		b.wishes = append(b.wishes, w)
		r.queue = r.queue[1:]
	}
	if len(b.wishes) == 0 {
		for p := range r.dirty {
			if fits([]string{p}) {
				add(p)
			}
		}
	}
	return b
}

// do writes a batch in the session up, or a new one, and gives the session. An error means that
// the store is away.
func (r *reports) do(ctx context.Context, up store.Session, b *batch) (store.Session, error) {
	at := time.Now()
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	if up == nil {
		var err error
		if up, err = r.store.Session(ctx, r.ttl); err != nil {
			r.again(b, false)
			r.failed(ctx, at, err)
			return nil, err
		}
		r.troubled("")
	}
	rev, err := up.Commit(ctx, b.txn)
	switch {
	case err == nil:
		r.link.answered(at, nil)
		r.done(b, rev)
		return up, nil
	case errors.Is(err, store.ErrSessionLost):
		r.again(b, false)
		r.all()
		return nil, nil
	case errors.Is(err, store.ErrConflict):
		if len(b.paths) == 0 {
			r.refuse(b, err)
			return up, nil
		}
		r.again(b, false)
		return up, r.disown(ctx, at, b)
	case errors.Is(err, store.ErrUnavailable), ctx.Err() != nil:
		r.again(b, true)
		r.failed(ctx, at, err)
		return up, err
	case len(b.paths) > 1 && len(b.wishes) != 1:
		return r.each(ctx, up, b)
	}
	r.refuse(b, err)
	return up, nil
}

// each does the wishes of a batch of which one is not to the store's liking, one by one; without wishes,
// its reports.
func (r *reports) each(ctx context.Context, up store.Session, b *batch) (store.Session, error) {
	parts := b.wishes
	if len(parts) == 0 {
		for _, p := range b.paths {
			parts = append(parts, &wish{paths: []string{p}})
		}
	}
	for i, w := range parts {
		one := &batch{sent: b.sent}
		if len(b.wishes) > 0 {
			one.wishes = []*wish{w}
		}
		for _, o := range b.txn.Do {
			if slices.Contains(w.paths, o.Path) {
				one.txn.Do, one.paths = append(one.txn.Do, o), append(one.paths, o.Path)
			}
		}
		for _, c := range b.txn.If {
			if slices.Contains(w.paths, c.Path) {
				one.txn.If = append(one.txn.If, c)
			}
		}
		var err error
		if len(one.txn.Do) == 0 { // said with one before it
			r.done(one, 0)
		} else if up, err = r.do(ctx, up, one); err != nil || up == nil {
			r.again(&batch{wishes: b.wishes[min(i+1, len(b.wishes)):]}, false)
			return up, err
		}
	}
	return up, nil
}

// again puts a batch back.
func (r *reports) again(b *batch, maybe bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range b.paths {
		if n := r.nodes[p]; n != nil {
			n.maybe = n.maybe || maybe && b.sent[p].owner != nil
		}
	}
	r.queue = append(append([]*wish(nil), b.wishes...), r.queue...)
	for _, w := range b.wishes {
		r.queued += w.size
	}
}

// done notes that the store has a batch.
func (r *reports) done(b *batch, rev store.Revision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.commits++
	r.last = max(r.last, rev)
	clear(r.standIns) // the store is there, and says itself what it has
	for _, p := range b.paths {
		n, sent := r.nodes[p], b.sent[p]
		if n == nil {
			continue
		}
		n.rev, n.maybe = 0, false
		if sent.owner != nil {
			n.rev = rev
		}
		if n.owner == sent.owner && bytes.Equal(n.value, sent.value) {
			delete(r.dirty, p)
			if n.owner == nil {
				r.drop(p, n)
			}
		}
	}
	for _, w := range b.wishes {
		if len(w.txn.If) > 0 {
			r.own(w, rev)
		}
		w.rev = rev
		close(w.done)
	}
}

// own notes what a transaction with conditions did. The caller holds mu.
func (r *reports) own(w *wish, rev store.Revision) {
	for _, o := range w.txn.Do {
		if n := r.nodes[o.Path]; n != nil {
			r.drop(o.Path, n)
		}
		if o.Delete {
			continue
		}
		n := &report{rev: rev}
		r.nodes[o.Path] = n
		if r.sessions[w.owner.token] == w.owner {
			r.hold(o.Path, n, w.owner, bytes.Clone(o.Value))
		} else { // it ended meanwhile
			r.dirty[o.Path] = true
		}
	}
}

// refuse tells who waits why the store does not take it, and forgets it.
func (r *reports) refuse(b *batch, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range b.paths {
		if n := r.nodes[p]; n != nil {
			r.drop(p, n)
		}
	}
	for _, w := range b.wishes {
		w.err = err
		close(w.done)
	}
	if len(b.wishes) == 0 {
		r.log.Warn("store does not take what agents reported, leaving it out", "nodes", len(b.paths), "error", err)
	}
}

// disown finds out which of the nodes that are to go are somebody else's by now.
func (r *reports) disown(ctx context.Context, at time.Time, b *batch) error {
	for _, c := range b.txn.If {
		n, err := r.store.Get(ctx, c.Path)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			r.failed(ctx, at, err)
			return err
		}
		if n.Modified == c.Modified {
			continue
		}
		r.mu.Lock()
		if mine := r.nodes[c.Path]; mine != nil && mine.rev == c.Modified {
			if mine.rev = 0; mine.owner == nil {
				r.drop(c.Path, mine)
			}
		}
		r.mu.Unlock()
	}
	return nil
}
