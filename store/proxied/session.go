package proxied

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

// goodbyeTimeout bounds what is said to the proxy when a session ends.
const goodbyeTimeout = time.Second

// errNoElections is why nobody is elected through a proxy.
var errNoElections = errors.New("there are no elections through a proxy: whoever is to lead connects to the store itself")

// session is a lease at the proxy.
type session struct {
	store *Store
	token wire.Token
	ttl   time.Duration
	done  chan struct{}

	mu    sync.Mutex // guards below
	over  bool       // done is closed
	alive time.Time  // when what the proxy last answered was sent
	on    *conn      // the connection that keeps it alive
}

// Session is store.Store.Session.
func (s *Store) Session(ctx context.Context, ttl time.Duration) (store.Session, error) {
	if ttl <= 0 {
		return nil, fmt.Errorf("start session: ttl is %s, expected more than 0", ttl)
	}
	ss, err := s.session(ctx, ttl)
	if err != nil {
		return nil, fmt.Errorf("start session: %w", err)
	}
	return ss, nil
}

func (s *Store) session(ctx context.Context, ttl time.Duration) (*session, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return nil, err
	}
	rctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	sent := time.Now()
	c, err := s.connection(rctx)
	var f wire.Frame
	if err == nil {
		f, _, err = s.ask(rctx, c, wire.Open, wire.AppendTTL(nil, ttl))
	}
	if err != nil {
		return nil, s.failure(ctx, rctx, err)
	}
	token, err := wire.ParseToken(f.Payload)
	if err != nil {
		return nil, err
	}
	ss := &session{store: s, token: token, ttl: ttl, done: make(chan struct{}), alive: sent, on: c}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	s.sessions[ss] = true
	close(s.hurry)
	s.hurry = make(chan struct{})
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		ss.expire()
	}()
	return ss, nil
}

// expire ends the session when the proxy has not been heard for its ttl.
func (ss *session) expire() {
	for {
		ss.mu.Lock()
		left := time.Until(ss.alive.Add(ss.ttl))
		ss.mu.Unlock()
		if left <= 0 {
			if ss.end() {
				ss.store.log.Warn("session lost", "ttl", ss.ttl)
			}
			return
		}
		select {
		case <-ss.done:
			return
		case <-ss.store.ctx.Done():
			ss.end()
			return
		case <-time.After(left):
		}
	}
}

// heard notes an answer to what was sent at a time, on the connection that the session is on.
func (ss *session) heard(c *conn, sent time.Time) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.on == c && sent.After(ss.alive) {
		ss.alive = sent
	}
}

// resume goes on with the session on another connection.
func (ss *session) resume(ctx context.Context, c *conn) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	sent := time.Now()
	_, _, err := ss.store.ask(ctx, c, wire.Resume, ss.token[:])
	if err == nil {
		ss.mu.Lock()
		ss.on, ss.alive = c, sent
		ss.mu.Unlock()
	}
	if errors.Is(err, store.ErrSessionLost) && ss.end() {
		ss.store.log.Warn("session lost", "ttl", ss.ttl, "error", err)
	}
}

// lost ends the session that the proxy says is over.
func (s *Store) lost(t wire.Token) {
	s.mu.Lock()
	var found *session
	for ss := range s.sessions {
		if ss.token == t {
			found = ss
		}
	}
	s.mu.Unlock()
	if found != nil && found.end() {
		s.log.Warn("session lost", "ttl", found.ttl)
	}
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
	ss.store.mu.Lock()
	delete(ss.store.sessions, ss)
	ss.store.mu.Unlock()
	return first
}

// Done is store.Session.Done.
func (ss *session) Done() <-chan struct{} { return ss.done }

func (ss *session) isOver() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.over
}

// Commit is store.Session.Commit.
func (ss *session) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if ss.isOver() {
		return 0, fmt.Errorf("commit: %w", store.ErrSessionLost)
	}
	rev, err := ss.store.commit(ctx, ss.token, txn)
	if errors.Is(err, store.ErrSessionLost) && ss.end() {
		ss.store.log.Warn("session lost", "ttl", ss.ttl)
	}
	return rev, err
}

// Elect is store.Session.Elect; it is always an error.
func (ss *session) Elect(_ context.Context, path string, _ []byte) (store.Leadership, error) {
	if ss.isOver() {
		return store.Leadership{}, fmt.Errorf("elect %s: %w", path, store.ErrSessionLost)
	}
	return store.Leadership{}, fmt.Errorf("elect %s: %w", path, errNoElections)
}

// Close is store.Session.Close.
func (ss *session) Close() error {
	if !ss.end() {
		return nil
	}
	s := ss.store
	ctx, cancel := context.WithTimeout(s.ctx, goodbyeTimeout)
	defer cancel()
	c, err := s.connection(ctx)
	if err == nil {
		_, _, err = s.ask(ctx, c, wire.End, ss.token[:])
	}
	if err == nil || errors.Is(err, store.ErrSessionLost) || errors.Is(err, store.ErrClosed) {
		return nil
	}
	return fmt.Errorf("end session: its nodes stay for up to %s: %w", ss.ttl, err)
}
