package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/candidate"
)

const (
	// goodbyeTimeout bounds what is said to the servers when something ends: the
	// deletion of a session's nodes, the taking back of a candidacy. Once they gave no
	// answer to a goodbye, those of the next deafFor get goodbyeShort: a daemon that is
	// stopped while the store is away says several, one after another.
	goodbyeTimeout = time.Second
	goodbyeShort   = 50 * time.Millisecond
	deafFor        = 10 * time.Second
	// electPoll is how often a candidate looks though nobody said that something
	// changed, as tailPoll.
	electPoll = 15 * time.Second
)

// lease is a ZooKeeper session that the sessions of one ttl of a Store share: one
// connection, of which servers by default take 60 from one address.
type lease struct {
	link *link
	ttl  time.Duration
	lost chan struct{} // closed when the ZooKeeper session is over, or must be thought so
	over chan struct{} // closed when no session uses it any more

	users int // guarded by Store.mu
}

// session is a znode of a lease's ZooKeeper session, and a list of what belongs to it.
type session struct {
	*candidate.Candidate
	store *Store
	lease *lease
	id    string
	done  chan struct{}
	sent  sync.WaitGroup // requests of commits that are given up or not

	mu     sync.Mutex      // guards below
	over   bool            // done is closed
	listed map[string]bool // paths that stand in the znodes below owned
}

// Session is store.Store.Session. The servers bound the ttl: between 2 and 20 of
// their ticks, which is 4 s to 40 s by default.
func (s *Store) Session(ctx context.Context, ttl time.Duration) (store.Session, error) {
	if ttl <= 0 {
		return nil, fmt.Errorf("start session: ttl is %s, expected more than 0", ttl)
	}
	if s.isClosed() {
		return nil, fmt.Errorf("start session: %w", store.ErrClosed)
	}
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return nil, fmt.Errorf("start session: %w", err)
	}
	defer cancel()
	s.work()
	l, err := s.hold(ttl)
	if err != nil {
		return nil, fmt.Errorf("start session: %w", err)
	}
	ss := &session{store: s, lease: l, id: newID(), done: make(chan struct{}), listed: make(map[string]bool)}
	ss.Candidate = candidate.New(ss, s.Commit)
	if err := ss.start(rctx); err != nil {
		s.release(l)
		return nil, fmt.Errorf("start session: %w", s.failure(ctx, err))
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.release(l)
		return nil, fmt.Errorf("start session: %w", store.ErrClosed)
	}
	s.sessions[ss] = true
	s.wg.Add(1)
	s.mu.Unlock()
	go func() {
		defer s.wg.Done()
		select {
		case <-l.lost:
			ss.lose()
		case <-ss.done:
		}
	}()
	return ss, nil
}

// hold gives the lease of this ttl to one more user.
func (s *Store) hold(ttl time.Duration) (*lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, store.ErrClosed
	}
	if l := s.leases[ttl]; l != nil {
		l.users++
		return l, nil
	}
	cfg := linkConfig{servers: s.cfg.Servers, timeout: ttl, buffer: leaseBuffer, log: s.log}
	if s.cfg.Spread > 0 {
		cfg.after = func() bool { return !s.link.Load().hosts.away() }
	}
	k, err := dial(cfg)
	if err != nil {
		return nil, err
	}
	l := &lease{link: k, ttl: ttl, lost: make(chan struct{}), over: make(chan struct{}), users: 1}
	s.leases[ttl] = l
	s.wg.Go(func() { s.keep(l) })
	return l, nil
}

// release takes a user off a lease; with the last one it ends.
func (s *Store) release(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.users--; l.users == 0 {
		s.forget(l)
		close(l.over)
	}
}

// forget makes the next session of this ttl start another lease. mu is held.
func (s *Store) forget(l *lease) {
	if s.leases[l.ttl] == l {
		delete(s.leases, l.ttl)
	}
}

// keep tells the sessions of a lease when that is lost, and closes it.
func (s *Store) keep(l *lease) {
	defer l.link.close()
	tick := time.NewTicker(max(l.ttl/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-l.over:
			return
		case <-l.link.expired:
		case <-tick.C:
			if l.link.silence() <= time.Duration(l.link.granted.Load()) {
				continue
			}
		}
		s.mu.Lock()
		s.forget(l)
		s.mu.Unlock()
		close(l.lost)
		return
	}
}

// start makes the session's znodes. A try whose answer was lost may have made them:
// the id is nobody else's.
func (ss *session) start(ctx context.Context) error {
	s := ss.store
	if err := authenticate(ctx, ss.lease.link, s.cfg.Auth); err != nil {
		return err
	}
	_, err := read(ctx, func() ([]zk.MultiResponse, error) {
		return ss.lease.link.conn.Multi(s.create(s.owned(ss.id), nil, zk.FlagPersistent), s.create(s.marker(ss.id), nil, zk.FlagEphemeral))
	})
	if errors.Is(err, zk.ErrNodeExists) {
		return nil
	}
	return err
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
	if first {
		ss.store.mu.Lock()
		delete(ss.store.sessions, ss)
		ss.store.mu.Unlock()
	}
	return first
}

// lose ends a session that has ended by itself.
func (ss *session) lose() {
	if ss.end() {
		ss.store.log.Warn("session lost", "ttl", ss.lease.ttl)
		ss.store.release(ss.lease)
	}
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

// Close is store.Session.Close. The marker goes first, so that no commit of the
// session that is still on its way comes after the deletion of its nodes.
func (ss *session) Close() error {
	first := ss.end()
	s := ss.store
	// Also when the session is thought lost: the servers may count otherwise.
	err := s.goodbye(func(ctx context.Context) error {
		if err := s.remove(ctx, s.marker(ss.id)); err != nil {
			return err
		}
		return s.bury(ctx, ss.id)
	})
	if first {
		s.release(ss.lease)
	}
	if err == nil || errors.Is(err, store.ErrClosed) {
		return nil
	}
	return fmt.Errorf("end session: its nodes stay for up to %s: %w", ss.lease.ttl, err)
}

// goodbye tells the servers that something has ended, for as long as that is worth
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

// remove deletes a znode, if it is there.
func (s *Store) remove(ctx context.Context, path string) error {
	_, err := read(ctx, func() (struct{}, error) { return struct{}{}, s.conn().Delete(path, -1) })
	if errors.Is(err, zk.ErrNoNode) {
		return nil
	}
	return err
}

// buryMost is how many nodes of a session one commit deletes, each with a condition.
const buryMost = store.MaxTxnOps / 2

// bury deletes the nodes of a session whose marker is gone, and its lists.
func (s *Store) bury(ctx context.Context, id string) error {
	lists, err := s.children(ctx, s.owned(id))
	if err != nil {
		return err
	}
	var paths []string
	seen := make(map[string]bool)
	for _, name := range lists {
		z, err := s.get(ctx, s.owned(id)+"/"+name)
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return err
		}
		for p := range strings.SplitSeq(string(z.data), "\n") {
			if !seen[p] && store.CheckPath(p) == nil {
				seen[p] = true
				paths = append(paths, p)
			}
		}
	}
	for len(paths) > 0 {
		n := min(buryMost, len(paths))
		if err := s.buryNodes(ctx, id, paths[:n]); err != nil {
			return err
		}
		paths = paths[n:]
	}
	for _, name := range lists {
		if err := s.remove(ctx, s.owned(id)+"/"+name); err != nil {
			return err
		}
	}
	return s.remove(ctx, s.owned(id))
}

// buryNodes deletes those of the nodes at paths that belong to a session.
func (s *Store) buryNodes(ctx context.Context, id string, paths []string) error {
	for {
		if err := s.sync(ctx); err != nil {
			return err
		}
		var txn store.Txn
		for _, p := range paths {
			z, err := s.get(ctx, s.leaf(p))
			if errors.Is(err, zk.ErrNoNode) {
				continue
			}
			if err != nil {
				return err
			}
			if n, owner, err := node(p, z.data, &z.stat); err == nil && owner == id {
				txn.If = append(txn.If, store.Cond{Path: p, Modified: n.Modified})
				txn.Do = append(txn.Do, store.Op{Path: p, Delete: true})
			}
		}
		if len(txn.Do) == 0 {
			return nil
		}
		if _, err := s.commit(ctx, txn, nil); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// Commit is store.Session.Commit. Before a node is first put it is listed as the
// session's, so that whoever ends the session finds it.
func (ss *session) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if ss.isOver() {
		return 0, fmt.Errorf("commit: %w", store.ErrSessionLost)
	}
	if err := txn.Check(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	err := ss.list(ctx, txn)
	var rev store.Revision
	if err == nil {
		rev, err = ss.store.commit(ctx, txn, ss)
	} else {
		err = fmt.Errorf("commit %s: %w", describe(txn), err)
	}
	if errors.Is(err, store.ErrSessionLost) {
		ss.lose()
	}
	return rev, err
}

// list writes down which nodes txn makes the session's.
func (ss *session) list(ctx context.Context, txn store.Txn) error {
	var paths []string
	ss.mu.Lock()
	for _, o := range txn.Do {
		if !o.Delete && !ss.listed[o.Path] {
			paths = append(paths, o.Path)
		}
	}
	ss.mu.Unlock()
	if len(paths) == 0 {
		return nil
	}
	s := ss.store
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	// Twice the same list does no harm.
	_, err = read(rctx, func() (string, error) {
		return s.conn().Create(s.owned(ss.id)+"/"+listPrefix, []byte(strings.Join(paths, "\n")), zk.FlagSequence, s.acl)
	})
	if errors.Is(err, zk.ErrNoNode) {
		return store.ErrSessionLost
	}
	if err != nil {
		return s.failure(ctx, err)
	}
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, p := range paths {
		ss.listed[p] = true
	}
	return nil
}

// Await is candidate.Session.Await. It waits until the node at path has gone, or changed. It returns its revision
// at once when it is this session's own, made by a commit whose answer was lost: a
// session stands only once at a path. Whoever waits also ends the session of a dead
// leader, without the janitor, who may have died with it.
func (ss *session) Await(ctx context.Context, path string) (store.Revision, error) {
	s := ss.store
	n, owner, err := s.node(ctx, path)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	case owner == ss.id:
		return n.Modified, nil
	}
	there, left, err := s.existsW(ctx, s.leaf(path))
	if err != nil || !there {
		return 0, err
	}
	var died <-chan zk.Event // nil, which blocks, for a node that is no session's
	if owner != "" {
		alive, gone, err := s.existsW(ctx, s.marker(owner))
		if err != nil {
			return 0, err
		}
		if !alive {
			return 0, s.buryDead(ctx, owner)
		}
		died = gone
	}
	poll := time.NewTicker(electPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-left:
			return 0, nil
		case <-died:
			return 0, s.buryDead(ctx, owner)
		case <-poll.C:
			now, _, err := s.node(ctx, path)
			if err != nil || now.Modified != n.Modified {
				if errors.Is(err, store.ErrNotFound) {
					err = nil
				}
				return 0, err
			}
			if err := s.buryDead(ctx, owner); err != nil {
				return 0, err
			}
		}
	}
}

// existsW tells whether a znode is there, and gives a watch of it.
func (s *Store) existsW(ctx context.Context, path string) (there bool, events <-chan zk.Event, err error) {
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return false, nil, err
	}
	defer cancel()
	type watched struct {
		there  bool
		events <-chan zk.Event
	}
	w, err := read(rctx, func() (w watched, err error) {
		w.there, _, w.events, err = s.conn().ExistsW(path)
		return w, err
	})
	if err != nil {
		return false, nil, s.failure(ctx, err)
	}
	return w.there, w.events, nil
}

// buryDead deletes the nodes of a session if it has ended.
func (s *Store) buryDead(ctx context.Context, id string) error {
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return err
	}
	defer cancel()
	if err := s.sync(rctx); err != nil {
		return s.failure(ctx, err)
	}
	st, err := s.stat(rctx, s.marker(id))
	if err == nil && st == nil {
		err = s.bury(rctx, id)
	}
	if err != nil {
		return s.failure(ctx, err)
	}
	return nil
}

// TakeBack is candidate.Session.TakeBack.
func (ss *session) TakeBack(path string) {
	if ss.isOver() {
		return // the node goes with the session
	}
	s := ss.store
	err := s.goodbye(func(ctx context.Context) error {
		sent := make(chan struct{})
		go func() { ss.sent.Wait(); close(sent) }()
		select {
		case <-sent:
		case <-ctx.Done():
			return ctx.Err()
		}
		return s.buryNodes(ctx, ss.id, []string{path})
	})
	if err != nil {
		s.log.Warn("candidacy not taken back, it may win until its session ends", "path", path, "error", err)
	}
}
