package zookeeper

import (
	"context"
	"errors"
	"time"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/fold"
)

// watchPause is how long a watch that could not go on waits before the next try.
const watchPause = 200 * time.Millisecond

// Watch is store.Store.Watch. A watch reads the log by way of the tail that all
// watches of the client share, and never waits for its reader.
//
//	tail ──► follow ──► increments ──► fold.Offer ──► reader
func (s *Store) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	if store.CheckPrefix(prefix) != nil || !s.begin() {
		return fold.Closed()
	}
	s.work()
	return fold.Watch(ctx, s.ctx, func(ctx context.Context, to chan<- fold.Increment) { s.follow(ctx, prefix, from, to) }, s.wg.Done)
}

// follow sends what happens below prefix after revision from until ctx ends.
func (s *Store) follow(ctx context.Context, prefix string, from store.Revision, to chan<- fold.Increment) {
	rev := from
	for ctx.Err() == nil {
		var at place
		var err error
		if rev == 0 {
			at, err = s.relist(ctx, prefix, to)
		} else {
			at, err = s.locate(ctx, rev)
		}
		if err == nil {
			rev, err = s.stream(ctx, prefix, at, to)
		}
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, errLost):
			s.log.Info("watch lost its history, reading all again", "prefix", prefix, "revision", rev)
			rev = 0
		case err != nil:
			s.log.Debug("watch interrupted", "prefix", prefix, "revision", rev, "error", err)
			pause(ctx, watchPause)
		}
	}
}

// relist sends the whole state.
func (s *Store) relist(ctx context.Context, prefix string, to chan<- fold.Increment) (place, error) {
	nodes, at, err := s.snapshot(ctx, prefix)
	if err != nil {
		return place{}, err
	}
	inc := fold.Increment{Revision: at.rev, Reset: true, Changes: make([]fold.Change, len(nodes))}
	for i, n := range nodes {
		inc.Changes[i].Node = n
	}
	return at, fold.Send(ctx, to, inc)
}

// stream sends what happens after the place at, and returns the revision up to which
// it has.
func (s *Store) stream(ctx context.Context, prefix string, at place, to chan<- fold.Increment) (store.Revision, error) {
	for {
		e, err := s.tail.at(ctx, at.life, at.next)
		if err == nil && e.bad != nil {
			err = errLost
		}
		if err != nil {
			return at.rev, err
		}
		at.next, at.rev = e.next, e.rev
		nodes := e.nodes(prefix)
		if len(nodes) == 0 {
			continue
		}
		inc := fold.Increment{Revision: e.rev, Changes: make([]fold.Change, len(nodes))}
		for i, n := range nodes {
			inc.Changes[i] = fold.Change{Node: n, Delete: n.Modified == 0}
		}
		if err := fold.Send(ctx, to, inc); err != nil {
			return at.rev, err
		}
	}
}
