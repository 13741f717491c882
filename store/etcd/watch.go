package etcd

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/fold"
)

// watchPause is how long a watch that could not be made or was cancelled by the
// server waits before the next try. Lost connections are not among these: the
// client library resumes them by itself.
const watchPause = 200 * time.Millisecond

// Watch is store.Store.Watch. A watch has two goroutines: one follows the server
// and never waits for the reader, so that nothing piles up in the client library;
// one folds what came while the reader was busy, at most one state for each path.
//
//	server ──► follow ──► increments ──► offer ──► reader
func (s *Store) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	if store.CheckPrefix(prefix) != nil || !s.begin() {
		return fold.Closed()
	}
	return fold.Watch(ctx, s.ctx, func(ctx context.Context, to chan<- fold.Increment) { s.follow(ctx, prefix, from, to) }, s.wg.Done)
}

// follow sends what happens below prefix after revision from until ctx ends.
func (s *Store) follow(ctx context.Context, prefix string, from store.Revision, to chan<- fold.Increment) {
	rev := from
	for ctx.Err() == nil {
		var err error
		if rev == 0 {
			rev, err = s.relist(ctx, prefix, to)
		} else {
			rev, err = s.stream(ctx, prefix, rev, to)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Debug("watch interrupted", "prefix", prefix, "revision", rev, "error", err)
			pause(ctx, watchPause)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// relist sends the whole state and returns its revision, 0 when it could not.
func (s *Store) relist(ctx context.Context, prefix string, to chan<- fold.Increment) (store.Revision, error) {
	nodes, rev, err := s.List(ctx, prefix)
	if err != nil {
		return 0, err
	}
	inc := fold.Increment{Revision: rev, Reset: true, Changes: make([]fold.Change, len(nodes))}
	for i, n := range nodes {
		inc.Changes[i].Node = n
	}
	return rev, fold.Send(ctx, to, inc)
}

// stream sends what happens after rev and returns the revision up to which it has:
// 0 when the history from there is not to be had any more.
func (s *Store) stream(ctx context.Context, prefix string, rev store.Revision, to chan<- fold.Increment) (store.Revision, error) {
	// A member cut off from its cluster would show a quiet tree for ever: with
	// RequireLeader it ends the watch instead, and the next try may reach another.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	over := s.over()
	w := s.client.Watch(ctx, s.prefix+prefix, clientv3.WithPrefix(), clientv3.WithRev(int64(rev)+1),
		clientv3.WithCreatedNotify(), clientv3.WithProgressNotify())
	for {
		var resp clientv3.WatchResponse
		open := false
		select {
		case <-over:
			return 0, nil
		case resp, open = <-w:
		}
		if !open {
			return rev, errors.New("the watch was closed")
		}
		if resp.CompactRevision != 0 {
			s.log.Info("watch lost its history, reading all again", "prefix", prefix, "revision", rev, "oldest", resp.CompactRevision)
			return 0, nil
		}
		if err := resp.Err(); err != nil {
			return rev, s.failure(ctx, err)
		}
		if (resp.Created || resp.IsProgressNotify()) && store.Revision(resp.Header.Revision) < rev && s.isOlder(ctx, rev) {
			return 0, nil
		}
		if resp.IsProgressNotify() {
			// The server has nothing more up to here: after an interruption the watch
			// goes on from a revision that is less likely to be forgotten.
			rev = max(rev, store.Revision(resp.Header.Revision))
		}
		if len(resp.Events) == 0 {
			continue
		}
		inc := fold.Increment{Changes: make([]fold.Change, len(resp.Events))}
		for i, e := range resp.Events {
			if e.Type == clientv3.EventTypeDelete {
				inc.Changes[i] = fold.Change{Node: store.Node{Path: string(e.Kv.Key[len(s.prefix):])}, Delete: true}
			} else {
				inc.Changes[i] = fold.Change{Node: s.node(e.Kv)}
			}
		}
		// Not the header's revision: that may be ahead of the events.
		rev = store.Revision(resp.Events[len(resp.Events)-1].Kv.ModRevision)
		inc.Revision = rev
		s.heard(0, int64(rev))
		if err := fold.Send(ctx, to, inc); err != nil {
			return rev, err
		}
	}
}
