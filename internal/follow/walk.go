package follow

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// step is one delta of the way.
type step struct {
	delta   *snapshot.Delta
	encoded []byte
	chain   snapshot.Chain
}

// way is how to get to a target.
type way struct {
	from base
	// steps are in order of version. Empty when the base is the target.
	steps []step
	// snapshot tells whether the snapshot that is offered leads to the target; set
	// only when from is baseNone.
	snapshot bool
	// blame is why the walk ended at baseNone.
	blame error
	kind  Kind
	at    uint64 // version that blame is about
	// evidence is the node or delta that is to blame; nil when none is.
	evidence []byte
}

// base is where a way begins.
type base int

const (
	baseNone  base = iota // nowhere
	baseHere              // at what the follower has
	baseAside             // at a snapshot that was fetched though it is not newer than that
	baseFull              // at nothing: the first step is a full delta, or makes version 1
)

// walk goes down from t until it meets something to begin at. Where the history is
// another one than here (a store that was lost or put back), it goes on below what is
// here, down to a full delta or the first version.
func (f *Follower) walk(ctx context.Context, t target) (w way, err error) {
	here := positionOf(f.at)
	lowest := here.version
	offered := position{t.snapshot.Version, t.snapshot.Chain}
	isOffered := !t.snapshot.ID.IsZero()
	var fork position // where the walk met another history; zero before
	if isOffered {
		lowest = min(lowest, offered.version)
	}
	if f.aside != nil {
		lowest = min(lowest, f.aside.Version())
	}
	end := func(from base) (way, error) {
		w.from = from
		slices.Reverse(w.steps)
		return w, nil
	}
	for p := t.position; ; {
		switch {
		case p == here:
			return end(baseHere)
		case f.aside != nil && p == positionOf(f.aside):
			return end(baseAside)
		case isOffered && p == offered:
			w.snapshot = true
		}
		if p.version == 0 && p.chain == (snapshot.Chain{}) {
			return end(baseFull)
		}
		if p.version <= lowest && fork == (position{}) || len(w.steps) >= maxSteps {
			fork = p
			w.kind, w.at = KindForked, p.version
			w.blame = fmt.Errorf("the published history has chain %s… at version %d, here it is %s… at version %d", p.chain.String()[:12], p.version, here.chain.String()[:12], here.version)
			if p == f.deadEnd || w.snapshot && t.snapshot.ID != f.failed || len(w.steps) >= maxSteps {
				return end(baseNone)
			}
		}
		s, kind, err := f.step(ctx, p)
		if err != nil {
			w.evidence = s.encoded
			if kind == "" {
				return w, err
			}
			if fork != (position{}) {
				f.deadEnd = fork // the fork is to blame, not that the log ends below it
				return end(baseNone)
			}
			w.kind, w.at, w.blame = kind, p.version, err
			return end(baseNone)
		}
		w.steps = append(w.steps, s)
		p = position{p.version - 1, s.delta.Prev}
		if s.delta.Full && p != here {
			return end(baseFull)
		}
	}
}

// step is the delta that made version p.version with chain p.chain. An error
// without a kind is the way's fault: the store could not be asked. With an error the step
// has nothing but what is to blame.
func (f *Follower) step(ctx context.Context, p position) (step, Kind, error) {
	if p.chain == f.broken {
		return step{}, KindDigest, fmt.Errorf("delta %d was found not to lead to its digest", p.version)
	}
	n, cached := f.view.log[p.version]
	if cached {
		if s, kind, err := f.open(ctx, p, n.Value); err == nil || kind == "" {
			return s, "", err
		}
		f.view.forget(p.version) // perhaps the store has a better one by now
	}
	n, err := f.cfg.Store.Get(ctx, tree.LogPath(f.cfg.Dataset, p.version))
	if errors.Is(err, store.ErrNotFound) {
		return step{}, KindUnreachable, fmt.Errorf("delta %d is not in the log", p.version)
	}
	if err != nil {
		return step{}, "", err
	}
	return f.open(ctx, p, n.Value)
}

// open reads a log node and checks that it is the one that p names.
func (f *Follower) open(ctx context.Context, p position, value []byte) (step, Kind, error) {
	encoded, err := f.read(ctx, p, value)
	switch {
	case errors.Is(err, errLog):
		return step{encoded: value}, KindLog, err
	case errors.Is(err, store.ErrNotFound):
		return step{}, KindUnreachable, err
	case err != nil:
		return step{}, "", err
	}
	// Nothing in the delta is looked at before its hash is the right one.
	chain := snapshot.ChainOf(encoded)
	if chain != p.chain {
		return step{encoded: encoded}, KindChain, fmt.Errorf("delta %d in the log has chain %s…, expected %s…", p.version, chain.String()[:12], p.chain.String()[:12])
	}
	d, err := snapshot.DecodeDelta(encoded)
	switch {
	case err != nil:
		return step{encoded: encoded}, KindLog, fmt.Errorf("delta %d in the log: %w", p.version, err)
	case d.Dataset != f.cfg.Dataset:
		return step{encoded: encoded}, KindDataset, fmt.Errorf("delta %d in the log is of dataset %s, expected %s", p.version, d.Dataset, f.cfg.Dataset)
	case d.Version != p.version:
		return step{encoded: encoded}, KindChain, fmt.Errorf("delta %d in the log makes version %d", p.version, d.Version)
	}
	return step{d, encoded, chain}, "", nil
}
