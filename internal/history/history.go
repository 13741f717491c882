package history

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// ErrGone is wrapped when there is no way back to a version any more, or never was.
var ErrGone = errors.New("is not kept")

// batchOps is how many pieces of a large undo go into one transaction: 13 of 64 KiB and
// their paths stay below store.MaxTxnBytes.
const batchOps = 13

// Ops says how a version is noted: first every batch in a transaction of its own, then
// ops with the version's head. undo leads back to the content before; nil when there is no
// way back. under leads from the content to what lies below overrides; nil when they are
// not in the way. It counts the pieces in e.
func Ops(dataset string, e *tree.History, undo, under *snapshot.Delta) (batches [][]store.Op, ops []store.Op, err error) {
	var pieces []store.Op
	add := func(what string, d *snapshot.Delta) (n int, err error) {
		if d == nil {
			return 0, nil
		}
		encoded, err := d.Encode()
		if err != nil {
			return 0, fmt.Errorf("%s of version %d: %w", what, e.Version, err)
		}
		for rest := encoded; len(rest) > 0; n++ {
			m := min(store.MaxValue, len(rest))
			pieces = append(pieces, store.Op{Path: tree.UndoPath(dataset, e.Version, len(pieces)), Value: rest[:m:m]})
			rest = rest[m:]
		}
		return n, nil
	}
	if e.Pieces, err = add("undo", undo); err != nil {
		return nil, nil, err
	}
	if e.Under, err = add("what lies below overrides", under); err != nil {
		return nil, nil, err
	}
	for len(pieces) > 1 { // the last one goes with the head
		n := min(batchOps, len(pieces)-1)
		batches = append(batches, pieces[:n])
		pieces = pieces[n:]
	}
	return batches, append(pieces, store.Op{Path: tree.HistoryPath(dataset, e.Version), Value: tree.Encode(e)}), nil
}

// Forget says how a version is taken out.
func Forget(dataset string, e tree.History) []store.Op {
	ops := []store.Op{{Path: tree.HistoryPath(dataset, e.Version), Delete: true}}
	for i := range e.Pieces + e.Under {
		ops = append(ops, store.Op{Path: tree.UndoPath(dataset, e.Version, i), Delete: true})
	}
	return ops
}

// List gives the versions that are kept, the oldest first.
func List(ctx context.Context, st store.Store, dataset string) ([]tree.History, error) {
	nodes, _, err := st.List(ctx, tree.HistoryPrefix(dataset))
	if err != nil {
		return nil, fmt.Errorf("read history of %s: %w", dataset, err)
	}
	out := make([]tree.History, len(nodes))
	for i, n := range nodes {
		if err := tree.Decode(n, &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// read gives the delta in n pieces of a version, from the given one on.
func read(ctx context.Context, st store.Store, dataset, what string, version uint64, from, n int) (*snapshot.Delta, error) {
	var encoded []byte
	for i := range n {
		n, err := st.Get(ctx, tree.UndoPath(dataset, version, from+i))
		if errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("%s of version %d of %s %w", what, version, dataset, ErrGone)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of version %d of %s: %w", what, version, dataset, err)
		}
		if encoded = append(encoded, n.Value...); len(encoded) > snapshot.MaxDelta {
			return nil, fmt.Errorf("%s of version %d of %s has more than %d octets", what, version, dataset, snapshot.MaxDelta)
		}
	}
	d, err := snapshot.DecodeDelta(encoded)
	if err == nil && (d.Dataset != dataset || d.Version != version || d.Full) {
		err = fmt.Errorf("it is of version %d of %s", d.Version, d.Dataset)
	}
	if err != nil {
		return nil, fmt.Errorf("%s of version %d of %s: %w", what, version, dataset, err)
	}
	return d, nil
}

// Past is what a dataset had otherwise at an earlier version than now: nil is nothing.
type Past map[record.Key]*record.RRset

// apply goes on by a delta from the content at the digest.
func (p Past) apply(d *snapshot.Delta, now snapshot.Digest, dataset string, to uint64) (snapshot.Digest, error) {
	if d.BaseDigest != now {
		return now, fmt.Errorf("version %d of %s %w: the way back from version %d needs the digest %s, there is %s", to, dataset, ErrGone, d.Version, d.BaseDigest, now)
	}
	for i := range d.Put {
		p[d.Put[i].Key] = &d.Put[i]
	}
	for _, k := range d.Remove {
		p[k] = nil
	}
	return d.Digest, nil
}

// At is a version that somebody has, and its digest. The store may have newer ones.
type At struct {
	Version uint64
	Digest  snapshot.Digest
}

// Back gives what the dataset had otherwise after version to than it has at a version, and
// the digest it had. With below it gives what lay below the overrides of then, as it was
// when the version was made.
func Back(ctx context.Context, st store.Store, dataset string, at At, to uint64, below bool) (Past, snapshot.Digest, error) {
	now := at.Digest
	all, err := List(ctx, st, dataset)
	if err != nil {
		return nil, now, err
	}
	if len(all) == 0 || to < all[0].Version {
		oldest := uint64(0)
		if len(all) > 0 {
			oldest = all[0].Version
		}
		return nil, now, fmt.Errorf("version %d of %s %w: the oldest is %d", to, dataset, ErrGone, oldest)
	}
	past := Past{}
	for _, e := range slices.Backward(all) {
		if e.Version > at.Version {
			continue
		}
		if e.Version <= to {
			if below && e.Under > 0 {
				under, err := read(ctx, st, dataset, "what lay below overrides", e.Version, e.Pieces, e.Under)
				if err != nil {
					return nil, now, err
				}
				if now, err = past.apply(under, now, dataset, to); err != nil {
					return nil, now, err
				}
			}
			break
		}
		if e.Pieces == 0 {
			return nil, now, fmt.Errorf("content before version %d of %s %w: the version has the dataset whole", e.Version, dataset, ErrGone)
		}
		undo, err := read(ctx, st, dataset, "undo", e.Version, 0, e.Pieces)
		if err != nil {
			return nil, now, err
		}
		if now, err = past.apply(undo, now, dataset, to); err != nil {
			return nil, now, err
		}
	}
	return past, now, nil
}

// Apply gives the dataset as it was, in canonical order, out of what it is now. Freshness
// records are left out.
func (p Past) Apply(now *snapshot.Dataset) []record.RRset {
	out := make([]record.RRset, 0, now.Len())
	for r := range now.All() {
		if _, other := p[r.Key]; !other && !snapshot.IsFreshness(r.Key) {
			out = append(out, r)
		}
	}
	for _, r := range p {
		if r != nil {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b record.RRset) int { return a.Key.Compare(b.Key) })
	return out
}
