package etcd

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"github.com/zonecast/zonecast/store"
)

// life is the time in which a store's revisions only grow. It is over when somebody puts the
// store back to an older copy: a watch would wait, without a word, until the revisions have come
// as far as they were.
type life struct {
	seen int64         // the highest revision that was seen
	over chan struct{} // closed, and replaced, when a lower one is
}

// seen is to be asked before a request: whatever the server answers to that is as new.
func (s *Store) seen() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life.seen
}

// heard notes the revision of an answer. before is what was seen before it was asked for.
func (s *Store) heard(before, rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case rev >= before:
		s.life.seen = max(s.life.seen, rev)
	case before <= s.life.seen: // else somebody else has found that out
		s.log.Warn("store is older than what was seen of it, reading all again", "revision", s.life.seen, "store", rev)
		s.life.seen = rev
		close(s.life.over)
		s.life.over = make(chan struct{})
	}
}

// over is closed when the present life is.
func (s *Store) over() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life.over
}

// lookAfterReconnects asks for the revision each time that the connection is there again: the
// client library goes on with its watches by itself, and tells nobody.
func (s *Store) lookAfterReconnects() {
	conn := s.client.ActiveConnection()
	was := connectivity.Ready
	for {
		state := conn.GetState()
		if state == connectivity.Ready && was != state && s.seen() > 0 {
			s.look(s.ctx)
		}
		was = state
		if !conn.WaitForStateChange(s.ctx, state) {
			return
		}
	}
}

// isOlder tells whether the store is older than a revision that was seen. A member that says so
// may only lag behind the others: then it is not.
func (s *Store) isOlder(ctx context.Context, rev store.Revision) bool {
	s.look(ctx)
	return s.seen() < int64(rev)
}

// look asks for the revision until there is an answer, or ctx ends.
func (s *Store) look(ctx context.Context) {
	for ctx.Err() == nil && s.ctx.Err() == nil {
		seen := s.seen()
		rctx, cancel := context.WithTimeout(ctx, requestTimeout)
		resp, err := s.client.Get(rctx, s.prefix+"/", clientv3.WithCountOnly())
		cancel()
		if err == nil {
			s.heard(seen, resp.Header.Revision)
			return
		}
		pause(ctx, watchPause)
	}
}
