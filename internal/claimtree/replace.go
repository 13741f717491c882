package claimtree

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Replace makes claims all that the headed source claims; without claims the
// source is removed. Only shards that differ are written. With extra, its
// conditions guard every commit made here and its operations happen in the commit
// that makes the claims live (alone, when the claims are live already); changed
// tells whether the claims were not. rev is that commit's revision, 0 when there
// was nothing to do. ErrConflict means that somebody else replaced the same source
// at the same time, or that a condition of extra does not hold: nothing became
// live. After ErrUnavailable it is not known what is live; the next Replace heals.
func Replace(ctx context.Context, st store.Store, source record.Source, claims []record.Claim, extra ...store.Txn) (rev store.Revision, changed bool, err error) {
	if err := source.Check(); err != nil {
		return 0, false, fmt.Errorf("replace claims: %w", err)
	}
	shards, err := cut(source, claims)
	if err != nil {
		return 0, false, fmt.Errorf("replace claims: %w", err)
	}
	r := replacement{st: st, source: source}
	for _, x := range extra {
		r.guard = append(r.guard, x.If...)
		r.extra = append(r.extra, x.Do...)
	}
	if err := r.load(ctx); err != nil {
		return 0, false, fmt.Errorf("replace claims of %s: %w", source, err)
	}
	rev, changed, err = r.run(ctx, shards)
	if err != nil {
		return 0, false, fmt.Errorf("replace claims of %s: %w", source, err)
	}
	return rev, changed, nil
}

// Load gives all claims of a source that are live now, headed or not, in canonical
// order of their keys.
func Load(ctx context.Context, st store.Store, source record.Source) ([]record.Claim, error) {
	nodes, rev, err := st.List(ctx, tree.ClaimsPrefix(source))
	if err != nil {
		return nil, fmt.Errorf("load claims of %s: %w", source, err)
	}
	// Sources below this one (zone/a/b below zone/a) are not it.
	nodes = slices.DeleteFunc(nodes, func(n store.Node) bool {
		s, _, ok := tree.SplitClaim(n.Path)
		return !ok || s != source
	})
	gate, err := st.Get(ctx, tree.ClaimsGate)
	switch {
	case err == nil:
		nodes = append(nodes, gate)
	case !errors.Is(err, store.ErrNotFound):
		return nil, fmt.Errorf("load claims of %s: %w", source, err)
	}
	changes, err := NewFold().Apply(store.Batch{Revision: rev, Reset: true, Puts: nodes})
	if err != nil {
		return nil, fmt.Errorf("load claims of %s: %w", source, err)
	}
	var claims []record.Claim
	for _, c := range changes {
		claims = append(claims, c.Claims...)
	}
	slices.SortStableFunc(claims, func(a, b record.Claim) int { return a.Key.Compare(b.Key) })
	return claims, nil
}

// A replacement is a chain of commits, each of which puts the head again under the
// condition that nobody else did since the one before. So two replacements of one
// source never interleave: whoever comes second breaks the other's chain, before
// it can take away a shard that the first relies on, and the other way round.
//
//	load ──► put shards (head as it was) ──► put shards, head = new, extra ──► delete orphans
//	           0 or more commits                the one that counts             0 or more commits
//
// When all fits one transaction it is one commit.
type replacement struct {
	st     store.Store
	source record.Source
	guard  []store.Cond
	extra  []store.Op

	head    []byte         // value of the head now; nil when there is none
	at      store.Revision // its revision
	present map[id]bool    // shards that have a node
	strange []string       // other nodes of the source: paths
}

func (r *replacement) headPath() string { return tree.ClaimsPrefix(r.source) + headName }

func (r *replacement) load(ctx context.Context) error {
	nodes, _, err := r.st.List(ctx, tree.ClaimsPrefix(r.source))
	if err != nil {
		return err
	}
	r.present = make(map[id]bool, len(nodes))
	for _, n := range nodes {
		s, name, ok := tree.SplitClaim(n.Path)
		if !ok || s != r.source {
			continue // of a source below this one
		}
		i, ok := parseName(name)
		switch {
		case name == headName:
			r.head, r.at = n.Value, n.Modified
		case ok && idOf(n.Value) == i:
			r.present[i] = true
		default:
			r.strange = append(r.strange, n.Path) // damaged, or of another kind
		}
	}
	return nil
}

func (r *replacement) run(ctx context.Context, shards []shard) (rev store.Revision, changed bool, err error) {
	ids := make([]id, 0, len(shards))
	want := make(map[id]bool, len(shards))
	var puts []store.Op
	for _, s := range shards {
		ids = append(ids, s.id)
		want[s.id] = true
		if !r.present[s.id] {
			puts = append(puts, store.Op{Path: s.id.path(r.source), Value: s.value})
		}
	}
	// A damaged shard that is wanted is mended by its put.
	r.strange = slices.DeleteFunc(r.strange, func(path string) bool {
		return slices.ContainsFunc(puts, func(o store.Op) bool { return o.Path == path })
	})
	var orphans []store.Op
	for i := range r.present {
		if !want[i] {
			orphans = append(orphans, store.Op{Path: i.path(r.source), Delete: true})
		}
	}
	for _, p := range r.strange {
		orphans = append(orphans, store.Op{Path: p, Delete: true})
	}
	slices.SortFunc(orphans, func(a, b store.Op) int { return cmp.Compare(a.Path, b.Path) })

	head := encodeHead(ids)
	if len(shards) == 0 {
		head = nil
	}
	was, err := decodeHead(r.head)
	changed = err != nil && r.head != nil || was.number > 0 || !slices.Equal(ids, was.now) || len(puts) > 0
	if !changed && len(orphans) == 0 && (head == nil) == (r.head == nil) {
		if len(r.extra) == 0 {
			return 0, false, nil
		}
		rev, err := r.st.Commit(ctx, store.Txn{If: r.guard, Do: r.extra})
		return rev, false, err
	}
	// Shards first, as long as the rest does not fit the commit that counts.
	for r.most(head, r.extra, puts) < len(puts) {
		if r.head == nil {
			r.head = encodeHead(nil) // a headed source from now on, with nothing live
		}
		n := r.most(r.head, nil, puts)
		if n == 0 {
			return 0, false, fmt.Errorf("%d operations and %d conditions beside the claims: more than a transaction takes", len(r.extra), len(r.guard))
		}
		if err := r.step(ctx, puts[:n]); err != nil {
			return 0, false, err
		}
		puts = puts[n:]
	}
	// Without a head there must be no shard left, or it would be an orphan nobody
	// sees: the removal keeps an empty head until the last shard is gone.
	final := head
	all := slices.Concat(puts, orphans)
	n := r.most(head, r.extra, all) - len(puts)
	if head == nil && n < len(orphans) {
		final = encodeHead(nil)
		n = r.most(final, r.extra, all) - len(puts)
	}
	do := slices.Concat(puts, orphans[:n], r.extra)
	if rev, err = r.commit(ctx, final, do); err != nil {
		return 0, false, err
	}
	r.sweep(ctx, head, orphans[n:])
	return rev, changed, nil
}

// sweep deletes what is no longer live. The claims are in force already, so that
// an error or an interruption only leaves work for the next Replace; a conflict
// means that the next one has begun.
func (r *replacement) sweep(ctx context.Context, head []byte, orphans []store.Op) {
	for len(orphans) > 0 {
		n := r.most(r.head, nil, orphans)
		next := r.head
		if head == nil && n == len(orphans) {
			next = nil
		}
		if _, err := r.commit(ctx, next, orphans[:n]); err != nil {
			return
		}
		orphans = orphans[n:]
	}
}

// step commits ops without changing what is live.
func (r *replacement) step(ctx context.Context, ops []store.Op) error {
	_, err := r.commit(ctx, r.head, slices.Clip(ops))
	return err
}

// commit does ops and puts head (nil deletes it) if nobody else put it meanwhile.
func (r *replacement) commit(ctx context.Context, head []byte, ops []store.Op) (store.Revision, error) {
	rev, err := r.st.Commit(ctx, r.txn(head, ops))
	if err != nil {
		if errors.Is(err, store.ErrConflict) {
			return 0, fmt.Errorf("another process replaced them or leads now: %w", err)
		}
		return 0, err
	}
	r.head, r.at = head, rev
	if head == nil {
		r.at = 0
	}
	return rev, nil
}

func (r *replacement) txn(head []byte, ops []store.Op) store.Txn {
	return store.Txn{
		If: append([]store.Cond{{Path: r.headPath(), Modified: r.at}}, r.guard...),
		Do: append([]store.Op{{Path: r.headPath(), Value: head, Delete: head == nil}}, ops...),
	}
}

// most is how many of ops a transaction takes beside the head and fixed.
func (r *replacement) most(head []byte, fixed, ops []store.Op) int {
	t := r.txn(head, fixed)
	count, size := len(t.If)+len(t.Do), 0
	for _, c := range t.If {
		size += len(c.Path)
	}
	for _, o := range t.Do {
		size += len(o.Path) + len(o.Value)
	}
	for i, o := range ops {
		count++
		size += len(o.Path) + len(o.Value)
		if count > store.MaxTxnOps || size > store.MaxTxnBytes {
			return i
		}
	}
	return len(ops)
}
