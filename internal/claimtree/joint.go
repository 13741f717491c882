package claimtree

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// Joint replaces what several headed sources of one kind claim, so that all of it becomes
// live in one commit, of whatever size. There may be one at a time for all kinds, or the
// guard of each must hold for one only; its sources are replaced by nothing else. It belongs
// to one goroutine.
//
//	Prepare: shards, heads with both states ──► the caller: heads, or the gate ──► Finish: heads with
//	         0 or more commits                  the one that counts                the new state, sweep
type Joint struct {
	st      store.Store
	kind    string
	guard   []store.Cond
	gate    uint64
	sources map[record.Source]*joined
	prep    *Together
	broken  error
}

// joined is what a Joint knows of a source.
type joined struct {
	live    []id
	present map[id]bool
	strange []string // other nodes: paths
	head    bool
}

// Together is what makes a replacement live.
type Together struct {
	// Do is for the commit that counts, to which the caller adds the guard.
	Do []store.Op
	// Changed are the sources that claim something else then, sorted.
	Changed []record.Source

	next   map[record.Source][]id
	number uint64 // of the gate; 0: not staged
}

// Want is all that a source is to claim; without claims it claims nothing any more.
type Want struct {
	Source record.Source
	Claims []record.Claim
}

// OpenJoint reads what the sources of a kind claim, brings to an end what the last Joint
// made live and takes away what it did not.
func OpenJoint(ctx context.Context, st store.Store, kind string, guard ...store.Cond) (*Joint, error) {
	j := &Joint{st: st, kind: kind, guard: guard, sources: map[record.Source]*joined{}}
	if err := j.load(ctx); err != nil {
		return nil, fmt.Errorf("open claims of kind %s: %w", kind, err)
	}
	return j, nil
}

func (j *Joint) load(ctx context.Context) error {
	gate, err := readGate(ctx, j.st)
	if err != nil {
		return err
	}
	j.gate = gate
	nodes, _, err := j.st.List(ctx, tree.Claims+j.kind+"/")
	if err != nil {
		return err
	}
	var mend []store.Op
	for _, n := range nodes {
		s, name, ok := tree.SplitClaim(n.Path)
		if !ok || s.Check() != nil {
			continue
		}
		src := j.source(s)
		i, ok := parseName(name)
		switch {
		case name == headName:
			src.head = true
			h, err := decodeHead(n.Value)
			if err != nil { // as if nothing were live: whoever lands puts it anew
				src.live = nil
				continue
			}
			src.live = h.at(gate)
			if h.number > 0 {
				mend = append(mend, store.Op{Path: n.Path, Value: encodeHead(src.live)})
			}
		case ok && idOf(n.Value) == i:
			src.present[i] = true
		default:
			src.strange = append(src.strange, n.Path)
		}
	}
	if err := j.batches(ctx, mend); err != nil {
		return err
	}
	return j.sweep(ctx, slices.Sorted(maps.Keys(j.sources)))
}

// readGate gives the number up to which replacements are live.
func readGate(ctx context.Context, st store.Store) (uint64, error) {
	n, err := st.Get(ctx, tree.ClaimsGate)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return decodeGate(n)
}

func decodeGate(n store.Node) (uint64, error) {
	var g tree.Gate
	if err := tree.Decode(n, &g); err != nil {
		return 0, err
	}
	return g.Number, nil
}

func (j *Joint) source(s record.Source) *joined {
	src := j.sources[s]
	if src == nil {
		src = &joined{present: map[id]bool{}}
		j.sources[s] = src
	}
	return src
}

// Sources are those that claim something, sorted.
func (j *Joint) Sources() []record.Source {
	var all []record.Source
	for s, src := range j.sources {
		if len(src.live) > 0 {
			all = append(all, s)
		}
	}
	slices.Sort(all)
	return all
}

// Prepare does all of a replacement but the operations that make it live, of which there
// are at most ops with together at most octets; a replacement that is larger is staged.
// After an error of the store the Joint is of no more use.
func (j *Joint) Prepare(ctx context.Context, wants []Want, ops, octets int) (*Together, error) {
	if j.broken != nil {
		return nil, fmt.Errorf("claims of kind %s are to be opened again after %w", j.kind, j.broken)
	}
	p := &Together{next: map[record.Source][]id{}}
	puts, heads := []store.Op{}, []store.Op{}
	named := map[record.Source]bool{}
	for _, w := range wants {
		if err := w.Source.Check(); err != nil {
			return nil, err
		}
		if w.Source.Kind() != j.kind {
			return nil, fmt.Errorf("source %s is of another kind than %s", w.Source, j.kind)
		}
		if named[w.Source] {
			return nil, fmt.Errorf("source %s is there twice", w.Source)
		}
		named[w.Source] = true
		shards, err := cut(w.Source, w.Claims)
		if err != nil {
			return nil, err
		}
		src := j.source(w.Source)
		ids := make([]id, 0, len(shards))
		written := len(puts)
		for _, s := range shards {
			ids = append(ids, s.id)
			if !src.present[s.id] {
				puts = append(puts, store.Op{Path: s.id.path(w.Source), Value: s.value})
			}
		}
		if slices.Equal(ids, src.live) && len(puts) == written && src.head == (len(ids) > 0) {
			continue
		}
		p.next[w.Source] = ids
		heads = append(heads, store.Op{Path: tree.ClaimsPrefix(w.Source) + headName, Value: encodeHead(ids)})
	}
	p.Changed = slices.Sorted(maps.Keys(p.next))
	p.Do = slices.Concat(puts, heads)
	if count, size := weigh(p.Do); count <= ops && size <= octets {
		j.prep = p
		return p, nil
	}
	p.number = j.gate + 1
	for i, s := range p.Changed {
		both, err := encodeBoth(p.number, j.source(s).live, p.next[s])
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", s, err)
		}
		heads[i] = store.Op{Path: tree.ClaimsPrefix(s) + headName, Value: both}
	}
	if err := j.batches(ctx, slices.Concat(puts, heads)); err != nil {
		j.broken = err
		return nil, fmt.Errorf("stage claims of kind %s: %w", j.kind, err)
	}
	p.Do = []store.Op{{Path: tree.ClaimsGate, Value: tree.Encode(tree.Gate{Number: p.number})}}
	if count, size := weigh(p.Do); count > ops || size > octets {
		return nil, fmt.Errorf("room for %d operations and %d octets: not enough for the gate", ops, octets)
	}
	j.prep = p
	return p, nil
}

func weigh(ops []store.Op) (count, size int) {
	for _, o := range ops {
		size += len(o.Path) + len(o.Value)
	}
	return len(ops), size
}

// Finish is to be called once what the last Prepare gave is committed.
func (j *Joint) Finish(ctx context.Context) error {
	p := j.prep
	j.prep = nil
	if p.number > 0 {
		j.gate = p.number
	}
	var heads []store.Op
	for _, s := range p.Changed {
		src := j.source(s)
		src.live, src.head = p.next[s], true
		for _, i := range src.live {
			src.present[i] = true
		}
		if p.number > 0 {
			heads = append(heads, store.Op{Path: tree.ClaimsPrefix(s) + headName, Value: encodeHead(src.live)})
		}
	}
	err := j.batches(ctx, heads)
	if err == nil {
		err = j.sweep(ctx, p.Changed)
	}
	if err != nil {
		j.broken = err
		return fmt.Errorf("claims of kind %s are live, but not tidied: %w", j.kind, err)
	}
	return nil
}

// sweep deletes what is not live, of a source that claims nothing its head last.
func (j *Joint) sweep(ctx context.Context, sources []record.Source) error {
	var orphans, heads []store.Op
	for _, s := range sources {
		src := j.source(s)
		live := make(map[id]bool, len(src.live))
		for _, i := range src.live {
			live[i] = true
		}
		for _, i := range slices.SortedFunc(maps.Keys(src.present), func(a, b id) int { return slices.Compare(a[:], b[:]) }) {
			if !live[i] {
				orphans = append(orphans, store.Op{Path: i.path(s), Delete: true})
				delete(src.present, i)
			}
		}
		for _, path := range src.strange {
			if _, name, _ := tree.SplitClaim(path); !slices.ContainsFunc(src.live, func(i id) bool { return i.name() == name }) {
				orphans = append(orphans, store.Op{Path: path, Delete: true})
			}
		}
		src.strange = nil
		if len(src.live) == 0 {
			if src.head {
				heads = append(heads, store.Op{Path: tree.ClaimsPrefix(s) + headName, Delete: true})
			}
			delete(j.sources, s)
		}
	}
	return j.batches(ctx, slices.Concat(orphans, heads))
}

// batches commits ops in as few transactions as they fit.
func (j *Joint) batches(ctx context.Context, ops []store.Op) error {
	for len(ops) > 0 {
		n, size := 0, 0
		for _, c := range j.guard {
			size += len(c.Path)
		}
		for n < len(ops) && len(j.guard)+n < store.MaxTxnOps {
			o := ops[n]
			if size += len(o.Path) + len(o.Value); size > store.MaxTxnBytes && n > 0 {
				break
			}
			n++
		}
		if _, err := j.st.Commit(ctx, store.Txn{If: j.guard, Do: slices.Clip(ops[:n])}); err != nil {
			return err
		}
		ops = ops[n:]
	}
	return nil
}
