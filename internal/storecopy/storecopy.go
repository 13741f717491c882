package storecopy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

const (
	// batchOps is how many nodes one transaction writes, each with a condition.
	batchOps = store.MaxTxnOps / 2
	// batchBytes leaves room for the paths of the conditions.
	batchBytes = store.MaxTxnBytes - batchOps*1024
	// tries is how often a store that is away for a moment is tried again.
	tries = 10
	pause = time.Second
)

// Errors that callers branch on.
var (
	// ErrNotEmpty means that the target has nodes, and nobody said that they may go.
	ErrNotEmpty = errors.New("the target is not empty")
	// ErrInUse means that processes run on the target.
	ErrInUse = errors.New("processes run on the target")
	// ErrMoved means that the source changed while it was copied.
	ErrMoved = errors.New("the source changed meanwhile")
)

// Options say how to copy.
type Options struct {
	// Force lets what is in the target go; without it a target that has nodes is
	// refused.
	Force bool
	// Progress is told how many of how many nodes are written; nil: nobody is.
	Progress func(written, total int)
}

// Report is what a copy did.
type Report struct {
	Nodes     int   `json:"nodes"`     // that the target has now
	Bytes     int64 `json:"bytes"`     // of their values
	Deleted   int   `json:"deleted"`   // nodes that the target had
	Ephemeral int   `json:"ephemeral"` // nodes of processes that run on the source, not copied
}

// Copy makes the lasting nodes of to those of from. Nothing may run on to; what runs
// on from should be stopped before.
func Copy(ctx context.Context, from, to store.Store, o Options) (Report, error) {
	var want, now map[string][]byte
	var rep Report
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"read source", func() (err error) {
			want, rep, err = source(ctx, from)
			return err
		}},
		{"write target", func() error {
			began, err := write(ctx, to, want, &rep, o)
			// After an error whether the last commit happened is not known, and what is
			// there is ours.
			o.Force = o.Force || began
			return err
		}},
		{"check target", func() error { return check(ctx, to, want) }},
		{"read source again", func() (err error) {
			now, _, err = source(ctx, from)
			return err
		}},
	} {
		if err := persist(ctx, step.do); err != nil {
			return rep, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	if n := differ(want, now); n > 0 {
		return rep, fmt.Errorf("%w: %d nodes", ErrMoved, n)
	}
	return rep, nil
}

// persist does a step again while a store is away, tries times at most.
func persist(ctx context.Context, step func() error) error {
	for try := 1; ; try++ {
		err := step()
		if !errors.Is(err, store.ErrUnavailable) || try == tries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// source reads the lasting nodes of a store as they are to be in another.
func source(ctx context.Context, s store.Store) (map[string][]byte, Report, error) {
	nodes, _, err := s.List(ctx, "/")
	if err != nil {
		return nil, Report{}, err
	}
	want := make(map[string][]byte, len(nodes))
	var rep Report
	for _, n := range nodes {
		if n.Ephemeral {
			rep.Ephemeral++
			continue
		}
		value, keep, err := portable(n)
		if err != nil {
			return nil, rep, err
		}
		if keep {
			want[n.Path] = value
			rep.Nodes++
			rep.Bytes += int64(len(value))
		}
	}
	return want, rep, nil
}

// portable takes out of a node's value what means something in its own store only:
// revisions. Stages write both of these anew as they start.
func portable(n store.Node) (value []byte, keep bool, err error) {
	if n.Path == tree.MutatorProgress {
		return nil, false, nil
	}
	dataset, ok := strings.CutPrefix(n.Path, tree.Datasets)
	if ok {
		dataset, ok = strings.CutSuffix(dataset, "/head")
	}
	if !ok || n.Path != tree.HeadPath(dataset) {
		return n.Value, true, nil
	}
	var head tree.Head
	if err := tree.Decode(n, &head); err != nil {
		return nil, false, err
	}
	head.Claims = 0
	return tree.Encode(head), true, nil
}

// write brings the target to want. It has begun once the target may be another than
// it was.
func write(ctx context.Context, to store.Store, want map[string][]byte, rep *Report, o Options) (began bool, err error) {
	nodes, _, err := to.List(ctx, "/")
	if err != nil {
		return false, err
	}
	if len(nodes) > 0 && !o.Force {
		return false, fmt.Errorf("%w: it has %d nodes, such as %s", ErrNotEmpty, len(nodes), nodes[0].Path)
	}
	have := make(map[string]store.Node, len(nodes))
	for _, n := range nodes {
		if n.Ephemeral {
			return false, fmt.Errorf("%w: %s is one's", ErrInUse, n.Path)
		}
		have[n.Path] = n
	}
	var ops []store.Op
	for _, p := range slices.Sorted(maps.Keys(want)) {
		if old, there := have[p]; !there || !bytes.Equal(old.Value, want[p]) {
			ops = append(ops, store.Op{Path: p, Value: want[p]})
		}
	}
	for _, n := range nodes {
		if _, there := want[n.Path]; !there {
			ops = append(ops, store.Op{Path: n.Path, Delete: true})
		}
	}
	for done, total := 0, len(ops); len(ops) > 0; {
		var txn store.Txn
		size := 0
		for _, op := range ops {
			if n := len(op.Path) + len(op.Value); len(txn.Do) == batchOps || size+n > batchBytes {
				break
			} else {
				size += n
			}
			txn.If = append(txn.If, store.Cond{Path: op.Path, Modified: have[op.Path].Modified})
			txn.Do = append(txn.Do, op)
		}
		if _, err := to.Commit(ctx, txn); err != nil {
			if errors.Is(err, store.ErrConflict) {
				err = fmt.Errorf("%w: %w", ErrInUse, err)
			}
			return true, err
		}
		for _, op := range txn.Do {
			if op.Delete {
				rep.Deleted++
			}
		}
		ops = ops[len(txn.Do):]
		if done += len(txn.Do); o.Progress != nil {
			o.Progress(done, total)
		}
	}
	return true, nil
}

// check reads the target back.
func check(ctx context.Context, to store.Store, want map[string][]byte) error {
	nodes, _, err := to.List(ctx, "/")
	if err != nil {
		return err
	}
	have := make(map[string][]byte, len(nodes))
	for _, n := range nodes {
		have[n.Path] = n.Value
	}
	if n := differ(want, have); n > 0 {
		return fmt.Errorf("%w: %d nodes are not as they were written", ErrInUse, n)
	}
	return nil
}

// differ counts the paths that are not the same in both.
func differ(a, b map[string][]byte) int {
	n := 0
	for p, v := range a {
		if w, there := b[p]; !there || !bytes.Equal(v, w) {
			n++
		}
	}
	for p := range b {
		if _, there := a[p]; !there {
			n++
		}
	}
	return n
}
