package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zonecast/zonecast/store"
)

const (
	// goodbyeTimeout bounds what is said to the server when something ends:
	// revoking a lease, taking back a candidacy. Once the server gave no answer to a
	// goodbye, those of the next deafFor get goodbyeShort: a daemon that is stopped
	// while the store is away says several, one after another.
	goodbyeTimeout = time.Second
	goodbyeShort   = 50 * time.Millisecond
	deafFor        = 10 * time.Second
	// electPause is how long a candidate waits before it tries a server again that
	// could not be reached.
	electPause = 100 * time.Millisecond
)

// session is a lease that is kept alive.
type session struct {
	store *Store
	id    clientv3.LeaseID
	ttl   time.Duration

	cancel context.CancelFunc // ends keeping alive
	done   chan struct{}

	mu     sync.Mutex // guards below
	over   bool       // done is closed
	stands map[string]bool
}

// Session is store.Store.Session. The ttl is rounded up to whole seconds, and the
// server has a least one: 1.5 times its election timeout, 2 s by default.
func (s *Store) Session(ctx context.Context, ttl time.Duration) (store.Session, error) {
	if ttl <= 0 {
		return nil, fmt.Errorf("start session: ttl is %s, expected more than 0", ttl)
	}
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return nil, fmt.Errorf("start session: %w", err)
	}
	defer cancel()
	lease, err := s.client.Grant(rctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return nil, fmt.Errorf("start session: %w", s.failure(ctx, err))
	}
	kctx, stop := context.WithCancel(clientv3.WithRequireLeader(s.ctx))
	ss := &session{store: s, id: lease.ID, ttl: time.Duration(lease.TTL) * time.Second, cancel: stop, done: make(chan struct{}), stands: make(map[string]bool)}
	alive, err := s.client.KeepAlive(kctx, lease.ID)
	if err != nil {
		stop()
		return nil, fmt.Errorf("start session: %w", s.failure(ctx, err))
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		stop()
		return nil, fmt.Errorf("start session: %w", store.ErrClosed)
	}
	s.sessions[ss] = true
	s.wg.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		for range alive { // closed when ttl has passed without an answer
		}
		if ss.end() {
			s.log.Warn("session lost", "ttl", ss.ttl)
		}
	}()
	return ss, nil
}

// end tells the owner that the session is over; false when it was already.
func (ss *session) end() bool {
	ss.mu.Lock()
	first := !ss.over
	if first {
		ss.over = true
		close(ss.done)
	}
	ss.mu.Unlock()
	ss.cancel()
	ss.store.mu.Lock()
	delete(ss.store.sessions, ss)
	ss.store.mu.Unlock()
	return first
}

func (ss *session) Done() <-chan struct{} { return ss.done }

func (ss *session) isOver() bool {
	select {
	case <-ss.done:
		return true
	default:
		return false
	}
}

func (ss *session) Close() error {
	ss.end()
	// Also when the lease is thought lost: the server may count otherwise, since a
	// restarted server gives every lease its whole ttl again.
	err := ss.store.goodbye(func(ctx context.Context) error {
		_, err := ss.store.client.Revoke(ctx, ss.id)
		return err
	})
	if err == nil || errors.Is(err, store.ErrSessionLost) || errors.Is(err, store.ErrClosed) {
		return nil
	}
	return fmt.Errorf("end session: its nodes stay for up to %s: %w", ss.ttl, err)
}

// goodbye tells the server that something has ended, for as long as that is worth
// waiting for.
func (s *Store) goodbye(say func(context.Context) error) error {
	timeout := goodbyeTimeout
	s.mu.Lock()
	if !s.deaf.IsZero() && time.Since(s.deaf) < deafFor {
		timeout = goodbyeShort
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	err := say(ctx)
	if err != nil {
		err = s.failure(ctx, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = time.Time{}
	if errors.Is(err, store.ErrUnavailable) {
		s.deaf = time.Now()
	}
	return err
}

func (ss *session) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if ss.isOver() {
		return 0, fmt.Errorf("commit: %w", store.ErrSessionLost)
	}
	rev, err := ss.store.commit(ctx, txn, ss.id)
	if errors.Is(err, store.ErrSessionLost) && ss.end() {
		ss.store.log.Warn("session lost", "ttl", ss.ttl)
	}
	return rev, err
}

// Elect is store.Session.Elect. Whoever creates the node at path leads; the others
// watch it and try again when it goes.
func (ss *session) Elect(ctx context.Context, path string, value []byte) (store.Leadership, error) {
	txn := store.Txn{If: []store.Cond{{Path: path}}, Do: []store.Op{{Path: path, Value: value}}}
	if err := txn.Check(); err != nil {
		return store.Leadership{}, fmt.Errorf("elect: %w", err)
	}
	if err := ss.stand(path); err != nil {
		return store.Leadership{}, fmt.Errorf("elect %s: %w", path, err)
	}
	rev, err := ss.campaign(ctx, txn)
	if err != nil {
		ss.takeBack(path)
		ss.leave(path)
		return store.Leadership{}, fmt.Errorf("elect %s: %w", path, err)
	}
	fence := store.Cond{Path: path, Modified: rev}
	return store.Leadership{Fence: fence, Resign: func(ctx context.Context) error { return ss.resign(ctx, fence) }}, nil
}

// campaign tries txn until it or an earlier try of it has made the node. An outage
// of the store does not end it; the end of ctx or of the session does.
func (ss *session) campaign(ctx context.Context, txn store.Txn) (store.Revision, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-ss.done:
			cancel(store.ErrSessionLost)
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(nil); <-ended }()
	path := txn.Do[0].Path
	for {
		rev, err := ss.Commit(ctx, txn)
		if err == nil {
			return rev, nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return 0, cause
		}
		if errors.Is(err, store.ErrConflict) {
			rev, err = ss.await(ctx, path)
			if rev != 0 {
				return rev, nil
			}
		}
		if cause := context.Cause(ctx); cause != nil {
			return 0, cause
		}
		if errors.Is(err, store.ErrUnavailable) {
			pause(ctx, electPause)
		} else if err != nil {
			return 0, err
		}
	}
}

// await waits until the node at path has gone. It returns its revision at once
// when it is this session's own, made by a commit whose answer was lost: a session
// stands only once at a path.
func (ss *session) await(ctx context.Context, path string) (store.Revision, error) {
	s := ss.store
	kv, rev, err := s.get(ctx, path)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if clientv3.LeaseID(kv.Lease) == ss.id {
		return store.Revision(kv.ModRevision), nil
	}
	wctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for resp := range s.client.Watch(wctx, s.prefix+path, clientv3.WithRev(int64(rev)+1), clientv3.WithFilterPut()) {
		if len(resp.Events) > 0 || resp.CompactRevision != 0 {
			return 0, nil
		}
		if err := resp.Err(); err != nil {
			return 0, s.failure(ctx, err)
		}
	}
	return 0, fmt.Errorf("%w: the watch was closed", store.ErrUnavailable)
}

// takeBack deletes what a campaign may have made without knowing, so that who has
// given up does not lead.
func (ss *session) takeBack(path string) {
	if ss.isOver() {
		return // the node goes with the lease
	}
	key := ss.store.prefix + path
	err := ss.store.goodbye(func(ctx context.Context) error {
		_, err := ss.store.client.Txn(ctx).If(clientv3.Compare(clientv3.LeaseValue(key), "=", ss.id)).Then(clientv3.OpDelete(key)).Commit()
		return err
	})
	if err != nil {
		ss.store.log.Warn("candidacy not taken back, it may win until its session ends", "path", path, "error", err)
	}
}

func (ss *session) stand(path string) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.over {
		return store.ErrSessionLost
	}
	if ss.stands[path] {
		return errors.New("this session stands there already")
	}
	ss.stands[path] = true
	return nil
}

func (ss *session) leave(path string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.stands, path)
}

func (ss *session) resign(ctx context.Context, fence store.Cond) error {
	_, err := ss.store.Commit(ctx, store.Txn{If: []store.Cond{fence}, Do: []store.Op{{Path: fence.Path, Delete: true}}})
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("resign %s: %w", fence.Path, err)
	}
	ss.leave(fence.Path)
	return nil
}
