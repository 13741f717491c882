package simstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zonecast/zonecast/store"
)

// session is a lease. Its fields are guarded by the cluster's mu.
//
//	heard ──cut off──► unheard ──ttl──► lost: its nodes go, and its owner learns of it then
//	  ▲                   │             or somewhat later
//	  └──────reached──────┘
type session struct {
	c      *Client
	ttl    time.Duration
	done   chan struct{}
	told   bool // done is closed
	over   bool // for the cluster: its nodes are gone
	nodes  map[string]bool
	stands map[string]bool
	lapse  *time.Timer // runs while nothing is heard; nil otherwise
	turn   int         // of lapse
}

// Session is store.Store.Session.
func (c *Client) Session(ctx context.Context, ttl time.Duration) (store.Session, error) {
	if ttl <= 0 {
		return nil, fmt.Errorf("start session: ttl is %s, expected more than 0", ttl)
	}
	var ss *session
	t := c.t
	_, err := c.call(ctx, "start session", false, func() (store.Revision, error) {
		t.load.count(&t.load.now.Sessions, 1)
		ss = &session{c: c, ttl: ttl, done: make(chan struct{}), nodes: map[string]bool{}, stands: map[string]bool{}}
		c.sessions[ss] = true
		return t.rev, nil
	})
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if ss != nil { // the answer was lost: it runs out
			ss.lose()
			ss.expireIn(ttl)
		}
		return nil, err
	}
	return ss, nil
}

// unheard begins to count: a third of the ttl may have gone since it was last renewed.
func (ss *session) unheard() {
	if ss.lapse == nil && !ss.over {
		ss.expireIn(ss.ttl - ss.c.t.upTo(ss.ttl/3))
	}
}

// heard puts an end to that, or tells the owner what has become of it.
func (ss *session) heard() {
	ss.turn++
	if ss.lapse != nil {
		ss.lapse.Stop()
		ss.lapse = nil
	}
	switch {
	case ss.over:
		ss.lose()
	case ss.told: // its owner has given it up and renews it no more
		ss.expireIn(ss.ttl)
	}
}

// expireIn ends the session unless it is heard of before. Without a quorum nothing ends: the
// next leader gives every session its ttl again.
func (ss *session) expireIn(d time.Duration) {
	t := ss.c.t
	ss.turn++
	turn := ss.turn
	ss.lapse = time.AfterFunc(d, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if ss.turn != turn {
			return
		}
		if !ss.told { // its owner learns of it now, or up to half its ttl later
			time.AfterFunc(t.upTo(ss.ttl/2), func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				if ss.lapse != nil || ss.over {
					ss.lose()
				}
			})
		}
		if !t.quorum() {
			ss.expireIn(ss.ttl)
			return
		}
		ss.over = true
		ss.remove()
	})
}

// lose tells the owner that the session is over.
func (ss *session) lose() {
	if !ss.told {
		ss.told = true
		close(ss.done)
	}
}

// remove takes the session's nodes away.
func (ss *session) remove() {
	delete(ss.c.sessions, ss)
	var txn store.Txn
	for p := range ss.nodes {
		txn.Do = append(txn.Do, store.Op{Path: p, Delete: true})
	}
	if len(txn.Do) > 0 {
		_, _ = ss.c.t.commit(txn, nil) // without conditions it cannot fail
	}
}

// end ends the session.
func (ss *session) end() {
	ss.heard()
	ss.lose()
	if !ss.over {
		ss.over = true
		ss.remove()
	}
}

func (ss *session) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if err := txn.Check(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	txn = keep(txn)
	t := ss.c.t
	t.mu.Lock()
	told := ss.told
	t.mu.Unlock()
	if told {
		return 0, fmt.Errorf("commit: %w", store.ErrSessionLost)
	}
	return ss.c.call(ctx, "commit", true, func() (store.Revision, error) {
		if ss.over || ss.told {
			ss.lose()
			return 0, store.ErrSessionLost
		}
		t.load.count(&t.load.now.Commits, 1)
		return t.commit(txn, ss)
	})
}

func (ss *session) Elect(ctx context.Context, path string, value []byte) (store.Leadership, error) {
	txn := store.Txn{If: []store.Cond{{Path: path}}, Do: []store.Op{{Path: path, Value: value}}}
	if err := txn.Check(); err != nil {
		return store.Leadership{}, fmt.Errorf("elect: %w", err)
	}
	t := ss.c.t
	t.mu.Lock()
	twice := ss.stands[path]
	ss.stands[path] = true
	t.mu.Unlock()
	if twice {
		return store.Leadership{}, fmt.Errorf("elect %s: this session stands there already", path)
	}
	leave := func(err error) (store.Leadership, error) {
		t.mu.Lock()
		delete(ss.stands, path)
		t.mu.Unlock()
		return store.Leadership{}, fmt.Errorf("elect %s: %w", path, err)
	}
	for {
		rev, err := ss.Commit(ctx, txn)
		if errors.Is(err, store.ErrConflict) {
			// Perhaps by an answer that was lost we lead already.
			t.mu.Lock()
			if e := t.nodes[path]; e.owner == ss && t.reachable(ss.c) {
				rev, err = e.Modified, nil
			}
			t.mu.Unlock()
		}
		if err == nil {
			fence := store.Cond{Path: path, Modified: rev}
			return store.Leadership{Fence: fence, Resign: func(ctx context.Context) error { return ss.resign(ctx, fence) }}, nil
		}
		if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrUnavailable) {
			return leave(err)
		}
		var again <-chan time.Time
		var changed chan struct{}
		t.mu.Lock()
		if _, there := t.nodes[path]; there && errors.Is(err, store.ErrConflict) {
			if changed = t.waits[path]; changed == nil {
				changed = make(chan struct{})
				t.waits[path] = changed
			}
		} else {
			timer := time.NewTimer(t.upTo(t.cfg.Timeout))
			defer timer.Stop()
			again = timer.C
		}
		t.mu.Unlock()
		select {
		case <-ctx.Done():
			return leave(ctx.Err())
		case <-ss.done:
			return leave(store.ErrSessionLost)
		case <-again:
		case <-changed:
		}
	}
}

func (ss *session) resign(ctx context.Context, fence store.Cond) error {
	_, err := ss.c.Commit(ctx, store.Txn{If: []store.Cond{fence}, Do: []store.Op{{Path: fence.Path, Delete: true}}})
	if err != nil && !errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("resign %s: %w", fence.Path, err)
	}
	ss.c.t.mu.Lock()
	delete(ss.stands, fence.Path)
	ss.c.t.mu.Unlock()
	return nil
}

func (ss *session) Done() <-chan struct{} { return ss.done }

func (ss *session) Close() error {
	t := ss.c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reachable(ss.c) && !t.electing || ss.over {
		ss.end()
		return nil
	}
	if !ss.told {
		ss.lose()
		ss.expireIn(ss.ttl)
	}
	return fmt.Errorf("end session: its nodes go in %s: %w", ss.ttl, store.ErrUnavailable)
}
