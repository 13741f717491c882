package fold

import (
	"cmp"
	"context"
	"slices"

	"github.com/zonecast/zonecast/store"
)

// Increment is what happened in one or several whole commits.
type Increment struct {
	Revision store.Revision
	Reset    bool // Changes are the whole state
	Changes  []Change
}

// Change is what became of one node.
type Change struct {
	Node   store.Node // only Path is set when it was deleted
	Delete bool
}

// Send gives inc to an Offer, or returns the error of ctx when that ends before.
func Send(ctx context.Context, to chan<- Increment, inc Increment) error {
	select {
	case to <- inc:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Offer gives the reader batch after batch, until ctx ends. While one waits to be
// taken, what comes is folded into the next, so that memory holds at most two states
// of a path and a slow reader skips what was overtaken.
func Offer(ctx context.Context, from <-chan Increment, out chan<- store.Batch) {
	var next fold
	var ready store.Batch
	var to chan<- store.Batch // nil, which blocks, while nothing is ready
	for {
		if to == nil && next.any {
			ready, to = next.batch(), out
			next = fold{}
		}
		select {
		case <-ctx.Done():
			return
		case inc := <-from:
			next.add(inc)
			if next.reset && to != nil {
				ready, to = store.Batch{}, nil // void: nobody needs it any more
			}
		case to <- ready:
			ready, to = store.Batch{}, nil
		}
	}
}

// fold is consecutive increments as one.
type fold struct {
	any    bool
	rev    store.Revision
	reset  bool
	latest map[string]Change
}

func (f *fold) add(inc Increment) {
	if f.latest == nil || inc.Reset {
		f.latest = make(map[string]Change, len(inc.Changes))
	}
	f.any, f.rev, f.reset = true, inc.Revision, f.reset || inc.Reset
	for _, c := range inc.Changes {
		if c.Delete && f.reset {
			delete(f.latest, c.Node.Path)
		} else {
			f.latest[c.Node.Path] = c
		}
	}
}

func (f *fold) batch() store.Batch {
	b := store.Batch{Revision: f.rev, Reset: f.reset}
	for p, c := range f.latest {
		if c.Delete {
			b.Deletes = append(b.Deletes, p)
		} else {
			b.Puts = append(b.Puts, c.Node)
		}
	}
	slices.SortFunc(b.Puts, func(a, b store.Node) int {
		return cmp.Or(cmp.Compare(a.Modified, b.Modified), cmp.Compare(a.Path, b.Path))
	})
	slices.Sort(b.Deletes)
	return b
}
