package memstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zonecast/zonecast/store"
)

// session is a lease. Its fields are guarded by tree.mu.
type session struct {
	client *Store
	ttl    time.Duration
	done   chan struct{}
	over   bool            // done is closed
	orphan bool            // its client died: the nodes go when ttl has passed
	stands map[string]bool // elections this session stands in or has won
}

// Session is store.Store.Session.
func (s *Store) Session(ctx context.Context, ttl time.Duration) (store.Session, error) {
	if ttl <= 0 {
		return nil, fmt.Errorf("start session: ttl is %s, expected more than 0", ttl)
	}
	if err := s.ready(ctx); err != nil {
		return nil, fmt.Errorf("start session: %w", err)
	}
	defer s.tree.mu.Unlock()
	ss := &session{client: s, ttl: ttl, done: make(chan struct{}), stands: make(map[string]bool)}
	s.sessions[ss] = true
	s.wg.Add(1)
	go ss.keepAlive()
	return ss, nil
}

// keepAlive ends the session when the engine was unreachable for its ttl.
func (ss *session) keepAlive() {
	defer ss.client.wg.Done()
	t := ss.client.tree
	for {
		t.mu.Lock()
		down, changed := t.down, t.changed
		t.mu.Unlock()
		if !down {
			select {
			case <-ss.done:
				return
			case <-changed:
			}
			continue
		}
		lost := time.NewTimer(ss.ttl)
		for down {
			select {
			case <-ss.done:
				lost.Stop()
				return
			case <-lost.C:
				t.mu.Lock()
				t.end(ss)
				t.mu.Unlock()
				return
			case <-changed:
				t.mu.Lock()
				down, changed = t.down, t.changed
				t.mu.Unlock()
			}
		}
		lost.Stop()
	}
}

// lose tells the owner that the session is over. The caller holds mu.
func (ss *session) lose() {
	if !ss.over {
		ss.over = true
		close(ss.done)
	}
}

// end ends the session and deletes its nodes in one commit. The caller holds mu.
func (t *tree) end(ss *session) {
	ss.lose()
	delete(ss.client.sessions, ss)
	var txn store.Txn
	for p, e := range t.nodes {
		if e.owner == ss {
			txn.Do = append(txn.Do, store.Op{Path: p, Delete: true})
		}
	}
	if len(txn.Do) > 0 {
		t.commit(txn, nil) // without conditions it cannot fail
	}
}

func (ss *session) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if err := txn.Check(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	if err := ss.client.ready(ctx); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	t := ss.client.tree
	defer t.mu.Unlock()
	if ss.over {
		return 0, fmt.Errorf("commit: %w", store.ErrSessionLost)
	}
	return t.commit(txn, ss)
}

func (ss *session) Elect(ctx context.Context, path string, value []byte) (store.Leadership, error) {
	txn := store.Txn{If: []store.Cond{{Path: path}}, Do: []store.Op{{Path: path, Value: value}}}
	if err := txn.Check(); err != nil {
		return store.Leadership{}, fmt.Errorf("elect: %w", err)
	}
	t := ss.client.tree
	if err := ss.stand(path); err != nil {
		return store.Leadership{}, fmt.Errorf("elect %s: %w", path, err)
	}
	for {
		t.mu.Lock()
		changed := t.changed
		t.mu.Unlock()
		rev, err := ss.Commit(ctx, txn)
		if err == nil {
			fence := store.Cond{Path: path, Modified: rev}
			return store.Leadership{Fence: fence, Resign: func(ctx context.Context) error { return ss.resign(ctx, fence) }}, nil
		}
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrUnavailable) {
			ss.leave(path)
			return store.Leadership{}, fmt.Errorf("elect %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			ss.leave(path)
			return store.Leadership{}, fmt.Errorf("elect %s: %w", path, ctx.Err())
		case <-ss.done:
			// Also while the engine is away, of which Commit would speak first.
			ss.leave(path)
			return store.Leadership{}, fmt.Errorf("elect %s: %w", path, store.ErrSessionLost)
		case <-changed:
		}
	}
}

func (ss *session) stand(path string) error {
	t := ss.client.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	if ss.stands[path] {
		return errors.New("this session stands there already")
	}
	ss.stands[path] = true
	return nil
}

func (ss *session) leave(path string) {
	t := ss.client.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(ss.stands, path)
}

func (ss *session) resign(ctx context.Context, fence store.Cond) error {
	_, err := ss.client.Commit(ctx, store.Txn{If: []store.Cond{fence}, Do: []store.Op{{Path: fence.Path, Delete: true}}})
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("resign %s: %w", fence.Path, err)
	}
	ss.leave(fence.Path)
	return nil
}

func (ss *session) Done() <-chan struct{} { return ss.done }

func (ss *session) Close() error {
	t := ss.client.tree
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.down && !ss.over {
		ss.lose()
		delete(ss.client.sessions, ss)
		time.AfterFunc(ss.ttl, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.end(ss)
		})
		return fmt.Errorf("end session: its nodes go in %s: %w", ss.ttl, store.ErrUnavailable)
	}
	t.end(ss)
	return nil
}
