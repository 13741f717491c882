package fleettest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// fake is a process's connection to the store, without what the scene is without.
func (w *world) fake(process string, st store.Store) store.Store {
	switch {
	case w.without == notBefore && strings.HasPrefix(process, "presenter"):
		return timeless{st}
	case w.without == anew && (strings.HasPrefix(process, "presenter") || strings.HasPrefix(process, "mutator")):
		return unaware{st}
	case w.without == putBack && strings.HasPrefix(process, "presenter"):
		return incurious{st}
	case w.leaks() && strings.HasSuffix(process, "/agent"):
		return late{st, w.without == asked}
	case w.without == past && strings.HasPrefix(process, "publisher"):
		return untouched{st}
	}
	return st
}

// timeless does not tell of when the head is.
type timeless struct{ store.Store }

func (t timeless) Get(ctx context.Context, path string) (store.Node, error) {
	n, err := t.Store.Get(ctx, path)
	if err != nil || path != tree.HeadPath(dataset) {
		return n, err
	}
	var h tree.Head
	if err := tree.Decode(n, &h); err != nil {
		return n, err
	}
	h.Time = 0
	n.Value = tree.Encode(h)
	return n, nil
}

// incurious does not learn what is signed.
type incurious struct{ store.Store }

func (i incurious) Get(ctx context.Context, path string) (store.Node, error) {
	if path == tree.ManifestPath(dataset) {
		return store.Node{}, fmt.Errorf("get %s: %w", path, store.ErrUnavailable)
	}
	return i.Store.Get(ctx, path)
}

// late tells of revocations by a watch that is later than others; mute, by nothing else.
type late struct {
	store.Store
	mute bool
}

func (l late) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	nodes, rev, err := l.Store.List(ctx, prefix)
	if prefix == tree.Revocations && l.mute {
		nodes = nil
	}
	return nodes, rev, err
}

func (l late) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	in := l.Store.Watch(ctx, prefix, from)
	if prefix != tree.Revocations {
		return in
	}
	return filtered(ctx, in, func(b store.Batch) (store.Batch, bool) {
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
		return b, true
	})
}

// filtered gives batches of a watch as change leaves them; those of which it leaves nothing are
// left out.
func filtered(ctx context.Context, from <-chan store.Batch, change func(store.Batch) (store.Batch, bool)) <-chan store.Batch {
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		for b := range from {
			b, ok := change(b)
			if !ok {
				continue
			}
			select {
			case out <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// unaware goes on with a watch as if nothing had been forgotten.
type unaware struct{ store.Store }

func (u unaware) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	first := true
	return filtered(ctx, u.Store.Watch(ctx, prefix, from), func(b store.Batch) (store.Batch, bool) {
		ok := first || !b.Reset
		first = false
		return b, ok
	})
}

// untouched does not tell that nodes of the log go or change, and shows none twice.
type untouched struct{ store.Store }

func (u untouched) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	return filtered(ctx, u.Store.Watch(ctx, prefix, from), func(b store.Batch) (store.Batch, bool) {
		var c store.Batch
		c.Revision, c.Reset = b.Revision, b.Reset
		for _, n := range b.Puts {
			if _, isLog := tree.LogVersion(dataset, n.Path); !isLog || n.Modified == n.Created {
				c.Puts = append(c.Puts, n)
			}
		}
		for _, path := range b.Deletes {
			if _, isLog := tree.LogVersion(dataset, path); !isLog {
				c.Deletes = append(c.Deletes, path)
			}
		}
		return c, c.Reset || len(c.Puts)+len(c.Deletes) > 0
	})
}

// answered is what people make of the answer to a commit.
func (w *world) answered(err error) error {
	if w.without == unknown && errors.Is(err, store.ErrUnavailable) {
		return nil
	}
	return err
}
