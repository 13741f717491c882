package presenter

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/history"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// position is where the published dataset is: all of the head, decoded. The RRsets
// are not kept: they are those of the reconcile.State as of its last Reconcile.
type position struct {
	version  uint64
	content  uint64
	time     int64
	digest   snapshot.Digest
	chain    snapshot.Chain
	claims   store.Revision
	pinned   uint64
	gated    bool
	modified store.Revision // of the head; zero: there is none
}

// head is the position as it stands in the store.
func (p position) head() tree.Head {
	return tree.Head{Version: p.version, Digest: p.digest.String(), Chain: p.chain.String(), Time: p.time, Claims: p.claims, Content: p.content, Pinned: p.pinned, Gated: p.gated}
}

// readHead gives the position the head says.
func (p *Presenter) readHead(ctx context.Context) (position, error) {
	n, err := p.deps.Store.Get(ctx, tree.HeadPath(p.cfg.Dataset))
	if errors.Is(err, store.ErrNotFound) {
		return position{}, nil
	}
	if err != nil {
		return position{}, fmt.Errorf("read head of %s: %w", p.cfg.Dataset, err)
	}
	var h tree.Head
	if err := tree.Decode(n, &h); err != nil {
		return position{}, err
	}
	digest, err := snapshot.ParseDigest(h.Digest)
	if err != nil {
		return position{}, fmt.Errorf("node %s: %w", n.Path, err)
	}
	chain, err := snapshot.ParseChain(h.Chain)
	if err != nil {
		return position{}, fmt.Errorf("node %s: %w", n.Path, err)
	}
	return position{version: h.Version, content: h.Content, time: h.Time, digest: digest, chain: chain, claims: h.Claims, pinned: h.Pinned, gated: h.Gated, modified: n.Modified}, nil
}

// damaged tells whether the log has a gap above what is offered as a snapshot: who is below it gets
// past it by a whole version alone, since a publisher that could make a snapshot beyond it would have.
// When that cannot be found out it is not.
func (p *Presenter) damaged(ctx context.Context, pos position) bool {
	m, err := p.manifest(ctx)
	if err != nil {
		return false
	}
	at, err := follow.Damaged(ctx, p.deps.Store, p.cfg.Dataset, pos.version, pos.chain, max(m.Snapshot.Version+1, m.Oldest))
	if err != nil || at == 0 {
		return false
	}
	if !p.fits() {
		p.log.Error("log is damaged, and the dataset is too large for one whole version", "version", at)
		return false
	}
	p.log.Error("log is damaged: the next version is whole", "version", at)
	return true
}

// fits tells whether there can be a whole version.
func (p *Presenter) fits() bool {
	size := 0
	for r := range p.active().All() {
		size += len(r.Owner) + len(r.Location) + 9
		for _, data := range r.Data {
			size += 2 + len(data)
		}
	}
	return size < snapshot.MaxDelta-1<<10
}

// start reads what is published, and gives the change from there to the reconciled
// state; full means that the base cannot be had, here or by publishers, or that the
// position is above it, and the change is the whole dataset.
func (p *Presenter) start(ctx context.Context) (pos position, change reconcile.Change, full bool, err error) {
	pos, err = p.readHead(ctx)
	if err != nil {
		return pos, change, false, err
	}
	if p.past, err = history.List(ctx, p.deps.Store, p.cfg.Dataset); err != nil {
		return pos, change, false, err
	}
	newest, host, err := p.answered(ctx)
	if err != nil {
		return pos, change, false, err
	}
	if p.behind(newest, host, pos.version) && p.cfg.AboveHosts {
		pos.version = newest
		change.Put = slices.Collect(p.active().All())
		return pos, change, true, nil
	}
	if pos.modified == 0 {
		change.Put = slices.Collect(p.active().All())
		return pos, change, false, nil
	}
	if p.unsigned.leap {
		change.Put = slices.Collect(p.active().All())
		return pos, change, true, nil
	}
	published, err := follow.Load(ctx, follow.Config{Dataset: p.cfg.Dataset, Store: p.deps.Store, Fetcher: p.deps.Fetcher, Log: p.log})
	switch {
	case err == nil && published.Version() == pos.version && published.Chain() == pos.chain && published.Digest() == pos.digest:
		return pos, difference(published.All(), p.active().All()), false, nil
	case err == nil:
		return pos, change, false, fmt.Errorf("read %s: the head is at version %d, chain %s, and what is published at %d, chain %s: read while it changed",
			p.cfg.Dataset, pos.version, pos.chain, published.Version(), published.Chain())
	case !errors.Is(err, follow.ErrUnreachable):
		return pos, change, false, err
	}
	// The log is trimmed or damaged and no snapshot can be had. Freshness records do
	// not count in digests: they are put again, whatever was published.
	var digest snapshot.Digest
	for r := range p.active().All() {
		if snapshot.IsFreshness(r.Key) {
			change.Put = append(change.Put, r)
		} else {
			digest = digest.Add(snapshot.HashRRset(r))
		}
	}
	if digest == pos.digest && !p.damaged(ctx, pos) {
		p.log.Warn("published dataset cannot be had, but is what the claims make: going on from it", "version", pos.version, "error", err)
		return pos, change, false, nil
	}
	p.log.Warn("published dataset cannot be had: the next version has it whole", "version", pos.version, "error", err)
	change.Put = slices.Collect(p.active().All())
	return pos, change, true, nil
}

// difference is the change from old to now, both in canonical order.
func difference(old, now iter.Seq[record.RRset]) reconcile.Change {
	var ch reconcile.Change
	next, stop := iter.Pull(now)
	defer stop()
	n, more := next()
	for o := range old {
		for more && n.Key.Compare(o.Key) < 0 {
			ch.Put = append(ch.Put, n)
			n, more = next()
		}
		if !more || n.Key != o.Key {
			ch.Remove, ch.Old = append(ch.Remove, o.Key), append(ch.Old, o)
			continue
		}
		if !n.Equal(o) {
			ch.Put, ch.Old = append(ch.Put, n), append(ch.Old, o)
		}
		n, more = next()
	}
	for more {
		ch.Put = append(ch.Put, n)
		n, more = next()
	}
	return ch
}
