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
// way back.
func Ops(dataset string, e tree.History, undo *snapshot.Delta) (batches [][]store.Op, ops []store.Op, err error) {
	var pieces []store.Op
	if undo != nil {
		encoded, err := undo.Encode()
		if err != nil {
			return nil, nil, fmt.Errorf("undo of version %d: %w", e.Version, err)
		}
		for rest := encoded; len(rest) > 0; e.Pieces++ {
			n := min(store.MaxValue, len(rest))
			pieces = append(pieces, store.Op{Path: tree.UndoPath(dataset, e.Version, e.Pieces), Value: rest[:n:n]})
			rest = rest[n:]
		}
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
	for i := range e.Pieces {
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

// Read gives the undo of a version.
func Read(ctx context.Context, st store.Store, dataset string, e tree.History) (*snapshot.Delta, error) {
	if e.Pieces == 0 {
		return nil, fmt.Errorf("content before version %d of %s %w: the version has the dataset whole", e.Version, dataset, ErrGone)
	}
	var encoded []byte
	for i := range e.Pieces {
		n, err := st.Get(ctx, tree.UndoPath(dataset, e.Version, i))
		if errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("content before version %d of %s %w", e.Version, dataset, ErrGone)
		}
		if err != nil {
			return nil, fmt.Errorf("read undo of version %d of %s: %w", e.Version, dataset, err)
		}
		if encoded = append(encoded, n.Value...); len(encoded) > snapshot.MaxDelta {
			return nil, fmt.Errorf("undo of version %d of %s has more than %d octets", e.Version, dataset, snapshot.MaxDelta)
		}
	}
	d, err := snapshot.DecodeDelta(encoded)
	if err == nil && (d.Dataset != dataset || d.Version != e.Version || d.Full) {
		err = fmt.Errorf("it is of version %d of %s", d.Version, d.Dataset)
	}
	if err != nil {
		return nil, fmt.Errorf("undo of version %d of %s: %w", e.Version, dataset, err)
	}
	return d, nil
}

// Past is what a dataset had otherwise at an earlier version than now: nil is nothing.
type Past map[record.Key]*record.RRset

// Back gives what the dataset had otherwise after version to than it has now, at the given
// digest, and the digest it had.
func Back(ctx context.Context, st store.Store, dataset string, now snapshot.Digest, to uint64) (Past, snapshot.Digest, error) {
	all, err := List(ctx, st, dataset)
	if err != nil {
		return nil, now, err
	}
	if len(all) == 0 || to+1 < all[0].Version || to == 0 {
		oldest := uint64(0)
		if len(all) > 0 {
			oldest = all[0].Version
		}
		return nil, now, fmt.Errorf("version %d of %s %w: the oldest is %d", to, dataset, ErrGone, oldest)
	}
	past := Past{}
	for _, e := range slices.Backward(all) {
		if e.Version <= to {
			break
		}
		undo, err := Read(ctx, st, dataset, e)
		if err != nil {
			return nil, now, err
		}
		if undo.BaseDigest != now {
			return nil, now, fmt.Errorf("version %d of %s %w: undoing version %d needs the digest %s, there is %s", to, dataset, ErrGone, e.Version, undo.BaseDigest, now)
		}
		for i := range undo.Put {
			past[undo.Put[i].Key] = &undo.Put[i]
		}
		for _, k := range undo.Remove {
			past[k] = nil
		}
		now = undo.Digest
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
