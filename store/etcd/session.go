package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/candidate"
)

const (
	// goodbyeTimeout bounds what is said to the server when something ends:
	// revoking a lease, taking back a candidacy. Once the server gave no answer to a
	// goodbye, those of the next deafFor get goodbyeShort: a daemon that is stopped
	// while the store is away says several, one after another.
	goodbyeTimeout = time.Second
	goodbyeShort   = 50 * time.Millisecond
	deafFor        = 10 * time.Second
)

// session is a lease that is kept alive.
type session struct {
	*candidate.Candidate
	store *Store
	id    clientv3.LeaseID
	ttl   time.Duration

	cancel context.CancelFunc // ends keeping alive
	done   chan struct{}

	mu   sync.Mutex // guards below
	over bool       // done is closed
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
	ss := &session{store: s, id: lease.ID, ttl: time.Duration(lease.TTL) * time.Second, cancel: stop, done: make(chan struct{})}
	ss.Candidate = candidate.New(ss, s.Commit)
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

// Await is candidate.Session.Await. It waits until the node at path has gone. It returns its revision at once
// when it is this session's own, made by a commit whose answer was lost: a session
// stands only once at a path.
func (ss *session) Await(ctx context.Context, path string) (store.Revision, error) {
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
	over := s.over()
	wctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	w := s.client.Watch(wctx, s.prefix+path, clientv3.WithRev(int64(rev)+1), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	for {
		var resp clientv3.WatchResponse
		open := false
		select {
		case <-over:
			return 0, nil // it is looked again
		case resp, open = <-w:
		}
		if !open {
			return 0, fmt.Errorf("%w: the watch was closed", store.ErrUnavailable)
		}
		if resp.Created && store.Revision(resp.Header.Revision) < rev && s.isOlder(ctx, rev) {
			return 0, nil
		}
		if len(resp.Events) > 0 || resp.CompactRevision != 0 {
			return 0, nil
		}
		if err := resp.Err(); err != nil {
			return 0, s.failure(ctx, err)
		}
	}
}

// TakeBack is candidate.Session.TakeBack.
func (ss *session) TakeBack(path string) {
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
