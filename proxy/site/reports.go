package site

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

const (
	// keptAfter is how long an agent waits for the store before it is told that the proxy has
	// what it said.
	keptAfter = 2 * time.Second
	// sweepEvery is how often it is looked for sessions that are over.
	sweepEvery = 200 * time.Millisecond
	// homecoming is how much of a random pause there is before a site that was cut off writes
	// what was reported meanwhile: many sites come back at the same time.
	homecoming = time.Second
)

// Bounds on what agents make the proxy keep.
const (
	maxSessions = 64 // of one connection
	// sessionsEach times the most connections is how many sessions there may be: agents have two at
	// most, and a session outlives its connection.
	sessionsEach = 4
	// Of one session: a host has a dozen nodes, of which the largest has 64 KiB.
	maxSessionNodes  = 4096
	maxSessionOctets = 8 << 20
	// Of all sessions: 10,000 hosts that say as much as hosts come to say, twice.
	maxOctets = 1 << 30
	// Of what waits for the store: transactions, and octets of those with conditions.
	maxWishes = 1 << 16
	maxQueued = 64 << 20
	// maxStandIns is how many answers are kept that are given in the store's place.
	maxStandIns = 64
)

// reports are the sessions of agents. What these put is gathered and put into one session of the
// store's, as it is when its turn comes: of a node that changes often only the newest state.
type reports struct {
	ctx    context.Context
	wg     *sync.WaitGroup // has what is said to agents by the way
	store  store.Store
	link   *uplink
	log    *slog.Logger
	ttl    time.Duration // of the session at the store
	pace   time.Duration
	most   int           // sessions
	wakeup chan struct{} // holds one: there is something to write

	mu       sync.Mutex // guards below
	sessions map[wire.Token]*session
	nodes    map[string]*report
	dirty    map[string]bool // paths whose reports the store does not have
	queue    []*wish
	queued   int    // octets of those in it that have conditions
	octets   int    // of paths and values of all sessions
	commits  uint64 // made at the store
	kept     uint64 // transactions acknowledged without it
	last     store.Revision
	trouble  string // why the store gives no session though it answers; empty: it does
	changes  uint64 // +1 when below may give something else
	standIns map[string]standIn
}

// session is one agent's. It is guarded by reports.mu.
type session struct {
	token wire.Token
	ttl   time.Duration
	on    *conn // nil: its connection broke
	heard time.Time
	nodes map[string]bool // paths of the reports that are its
	size  int             // octets of these
}

// report is a node that a session wants to be, or no longer to be.
type report struct {
	owner *session // nil: it is to go
	value []byte
	rev   store.Revision // at which the store has it from here; zero: it does not
	maybe bool           // the store may have it all the same: an answer was lost
	any   bool           // it is to go whoever put it
}

// wish is a transaction that somebody waits for.
type wish struct {
	paths []string  // dirty ones; or
	txn   store.Txn // one with conditions, of owner
	size  int       // octets of txn
	owner *session
	done  chan struct{} // closed when what is below is set
	rev   store.Revision
	err   error
}

// newReports: what it says to agents ends with ctx, and wg has it.
func newReports(ctx context.Context, st store.Store, link *uplink, log *slog.Logger, cfg Config, wg *sync.WaitGroup) *reports {
	return &reports{
		ctx: ctx, wg: wg, store: st, link: link, log: log, ttl: cfg.SessionTTL, pace: cfg.Pace, most: sessionsEach * cfg.Most, wakeup: make(chan struct{}, 1),
		sessions: map[wire.Token]*session{}, nodes: map[string]*report{}, dirty: map[string]bool{}, standIns: map[string]standIn{},
	}
}

// problem is what a person should know; empty: nothing.
func (r *reports) problem() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.trouble
}

// hold makes a report at path its owner's, with a value; without an owner it is to go. The caller
// holds mu.
func (r *reports) hold(path string, n *report, owner *session, value []byte) {
	if s := n.owner; s != nil {
		delete(s.nodes, path)
		s.size -= len(path) + len(n.value)
		r.octets -= len(path) + len(n.value)
	}
	n.owner, n.value = owner, value
	if owner != nil {
		owner.nodes[path] = true
		owner.size += len(path) + len(value)
		r.octets += len(path) + len(value)
	}
	r.changes++
}

// room tells why there is none for what a transaction of a session puts, or nil. The caller holds mu.
func (r *reports) room(s *session, txn store.Txn) error {
	nodes, size := len(s.nodes), s.size
	all := r.octets
	for _, o := range txn.Do {
		var before int
		if n := r.nodes[o.Path]; n != nil && n.owner != nil {
			before = len(o.Path) + len(n.value)
			if n.owner == s {
				nodes, size = nodes-1, size-before
			}
		}
		all -= before
		if !o.Delete {
			nodes, size, all = nodes+1, size+len(o.Path)+len(o.Value), all+len(o.Path)+len(o.Value)
		}
	}
	switch {
	case nodes > max(maxSessionNodes, len(s.nodes)):
		return fmt.Errorf("commit: the session would have %d nodes at the proxy of the site, at most %d", nodes, maxSessionNodes)
	case size > max(maxSessionOctets, s.size):
		return fmt.Errorf("commit: the session would have nodes of %d octets at the proxy of the site, at most %d", size, maxSessionOctets)
	case all > max(maxOctets, r.octets):
		return fmt.Errorf("commit: the agents of this site would have nodes of %d octets, at most %d", all, maxOctets)
	case len(r.queue) >= maxWishes || r.queued > maxQueued:
		return fmt.Errorf("commit: %w: %d transactions of this site wait for it already, %d octets of conditions", store.ErrUnavailable, len(r.queue), r.queued)
	}
	return nil
}

// prune forgets sessions of a connection that are over. The caller holds mu.
func (r *reports) prune(c *conn) {
	c.sessions = slices.DeleteFunc(c.sessions, func(t wire.Token) bool { return r.sessions[t] == nil })
}

func (r *reports) poke() {
	select {
	case r.wakeup <- struct{}{}:
	default:
	}
}

// open starts a session on a connection.
func (r *reports) open(c *conn, ttl time.Duration) (wire.Token, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune(c)
	switch {
	case len(c.sessions) >= maxSessions:
		return wire.Token{}, fmt.Errorf("start session: the connection has %d, which is the most", maxSessions)
	case len(r.sessions) >= r.most:
		return wire.Token{}, fmt.Errorf("start session: the agents of this site have %d sessions, which is the most (%d times --proxy-agents-most)", len(r.sessions), sessionsEach)
	}
	s := &session{ttl: ttl, on: c, heard: time.Now(), nodes: map[string]bool{}}
	crand.Read(s.token[:]) // does not fail
	r.sessions[s.token] = s
	c.sessions = append(c.sessions, s.token)
	return s.token, nil
}

// resume goes on with a session on another connection.
func (r *reports) resume(c *conn, t wire.Token) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sessions[t]
	if s == nil {
		return fmt.Errorf("resume session: %w", store.ErrSessionLost)
	}
	r.prune(c)
	if !slices.Contains(c.sessions, t) {
		if len(c.sessions) >= maxSessions {
			return fmt.Errorf("resume session: the connection has %d, which is the most", maxSessions)
		}
		c.sessions = append(c.sessions, t)
	}
	s.on, s.heard = c, time.Now()
	return nil
}

// heard notes a sign of life of all sessions of a connection.
func (r *reports) heard(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, t := range c.sessions {
		if s := r.sessions[t]; s != nil && s.on == c {
			s.heard = now
		}
	}
}

// gone notes that a connection broke: its sessions have their ttl to come back.
func (r *reports) gone(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range c.sessions {
		if s := r.sessions[t]; s != nil && s.on == c {
			s.on = nil
		}
	}
}

// end ends a session, waits a while until its nodes are gone, and gives which these are.
func (r *reports) end(ctx context.Context, t wire.Token) (store.Revision, []store.Op, error) {
	r.mu.Lock()
	s := r.sessions[t]
	if s == nil {
		r.mu.Unlock()
		return 0, nil, fmt.Errorf("end session: %w", store.ErrSessionLost)
	}
	var ops []store.Op
	for p := range s.nodes {
		ops = append(ops, store.Op{Path: p, Delete: true})
	}
	w := r.expire(s)
	r.mu.Unlock()
	rev, err := r.wait(ctx, w)
	return rev, ops, err
}

// expire takes a session away. The caller holds mu.
func (r *reports) expire(s *session) *wish {
	delete(r.sessions, s.token)
	w := &wish{done: make(chan struct{})}
	for p := range s.nodes {
		r.hold(p, r.nodes[p], nil, nil)
		r.dirty[p] = true
		w.paths = append(w.paths, p)
	}
	r.queue = append(r.queue, w)
	r.poke()
	return w
}

// sweep ends sessions that were not heard of.
func (r *reports) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := time.Now()
		r.mu.Lock()
		for _, s := range r.sessions {
			if now.Sub(s.heard) <= s.ttl {
				continue
			}
			r.log.Debug("session of an agent is over", "ttl", s.ttl, "nodes", len(s.nodes))
			if c := s.on; c != nil {
				r.wg.Go(func() { c.lost(s.token) })
			}
			r.expire(s)
		}
		r.mu.Unlock()
	}
}

// commit does a transaction of a session.
func (r *reports) commit(ctx context.Context, t wire.Token, txn store.Txn) (store.Revision, error) {
	r.mu.Lock()
	s := r.sessions[t]
	if s == nil {
		r.mu.Unlock()
		return 0, fmt.Errorf("commit: %w", store.ErrSessionLost)
	}
	if err := r.room(s, txn); err != nil {
		r.mu.Unlock()
		return 0, err
	}
	w := &wish{owner: s, done: make(chan struct{})}
	if len(txn.If) > 0 {
		if err := r.link.cut(); err != nil {
			r.mu.Unlock()
			return 0, fmt.Errorf("commit: %w", err)
		}
		w.txn = txn
		for _, o := range txn.Do {
			w.size += len(o.Path) + len(o.Value)
		}
		r.queued += w.size
	} else {
		for _, o := range txn.Do {
			n := r.nodes[o.Path]
			if n == nil {
				n = &report{}
				r.nodes[o.Path] = n
			}
			if n.any = o.Delete; o.Delete {
				r.hold(o.Path, n, nil, nil)
			} else {
				r.hold(o.Path, n, s, bytes.Clone(o.Value))
			}
			r.dirty[o.Path] = true
			w.paths = append(w.paths, o.Path)
		}
	}
	r.queue = append(r.queue, w)
	r.mu.Unlock()
	r.poke()
	return r.wait(ctx, w)
}

// wait waits for a wish, but not for a store that is away: the proxy has what was wished for,
// unless it had conditions.
func (r *reports) wait(ctx context.Context, w *wish) (store.Revision, error) {
	patience := time.NewTimer(keptAfter)
	defer patience.Stop()
	late := patience.C
	if len(w.txn.If) > 0 {
		late = nil
	}
	select {
	case <-w.done:
		return w.rev, w.err
	case <-late:
	case <-ctx.Done():
		if late == nil {
			r.withdraw(w)
			return 0, ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept++
	return r.last, nil
}

// withdraw takes a wish back that nobody waits for any more, unless its turn has come.
func (r *reports) withdraw(w *wish) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.queue, w); i >= 0 {
		r.queue = slices.Delete(r.queue, i, i+1)
		r.queued -= w.size
	}
}

// forget notes that nodes were put or deleted past the sessions: they are these no longer.
func (r *reports) forget(ops []store.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range ops {
		if n := r.nodes[o.Path]; n != nil {
			r.drop(o.Path, n)
		}
	}
}

// drop forgets a report. The caller holds mu.
func (r *reports) drop(path string, n *report) {
	r.hold(path, n, nil, nil)
	delete(r.nodes, path)
	delete(r.dirty, path)
}

// write writes what there is to write until ctx ends.
func (r *reports) write(ctx context.Context) {
	var up store.Session
	defer func() {
		if up != nil {
			_ = up.Close() // its nodes go by themselves after its ttl
		}
	}()
	over := func() <-chan struct{} {
		if up == nil {
			return nil
		}
		return up.Done()
	}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-over():
			up = nil
			r.all()
			r.log.Info("session of the site is lost, writing what its agents reported anew")
		case <-r.wakeup:
		}
		away := false
		for ctx.Err() == nil {
			work := r.next()
			if work == nil {
				break
			}
			var err error
			if up, err = r.do(ctx, up, work); err != nil && ctx.Err() == nil {
				away = true
				break
			}
			pause(ctx, r.pace)
		}
		if away {
			r.keep()
			// A little later than the store is back: it is asked for by the uplink alone.
			for ctx.Err() == nil && r.link.cut() != nil {
				pause(ctx, 100*time.Millisecond)
				r.keep()
			}
			pause(ctx, rand.N(homecoming))
			r.poke()
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

// all says that the store has none of the reports.
func (r *reports) all() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p, n := range r.nodes {
		if n.owner == nil && !n.any && !n.maybe {
			r.drop(p, n) // went with the session
			continue
		}
		n.rev = 0
		r.dirty[p] = true
	}
	r.poke()
}

// keep tells who waits that the proxy has it.
func (r *reports) keep() {
	cut := r.link.cut()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.queue {
		if len(w.txn.If) > 0 {
			w.err = fmt.Errorf("commit: %w", errors.Join(cut, store.ErrUnavailable))
		} else {
			w.rev = r.last
			r.kept++
		}
		close(w.done)
	}
	r.queue, r.queued = nil, 0
}

// failed notes that the store is away.
func (r *reports) failed(ctx context.Context, at time.Time, err error) {
	if !errors.Is(err, store.ErrUnavailable) && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", store.ErrUnavailable, err)
	}
	if !errors.Is(err, store.ErrUnavailable) {
		r.troubled(fmt.Sprintf("the store answers and does not take what agents report, trying again: %v", err))
	}
	r.link.answered(at, err)
}

// troubled notes why the store takes no reports; empty: it does. What is new is logged.
func (r *reports) troubled(text string) {
	r.mu.Lock()
	before := r.trouble
	r.trouble = text
	r.mu.Unlock()
	if text != before && text != "" {
		r.log.Error("reports of agents are not written", "error", text)
	}
}
