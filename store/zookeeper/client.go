package zookeeper

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/zonecast/zonecast/store"
)

const (
	// requestTimeout bounds each call, also when the caller's ctx would wait longer.
	// Until then reads wait for a connection, so that the restart of a server and
	// the election of a leader are delays and no errors.
	requestTimeout = 5 * time.Second
	// tryTimeout is after how long a read that has no answer is asked again: servers
	// have been seen to forget a sync, on a connection that lives.
	tryTimeout = 2 * time.Second
	// retryPause is between a read that failed with its connection and the next try.
	retryPause = 50 * time.Millisecond
	// A connection is made anew after renewAfter times its session's timeout without a
	// word, which is looked at every renewTick.
	renewAfter = 2
	renewTick  = time.Second
	// atOnce is how many requests of one call are under way at a time. They share
	// one connection.
	atOnce = 64
	// maxRoot is the longest root, in octets: it stands before every path of a
	// transaction, see packetRoom.
	maxRoot = 256
	// DefaultRoot is the root when none is given.
	DefaultRoot = "/zonecast"
)

// Config says which ZooKeeper, and where in it.
type Config struct {
	// Servers of one ensemble, as host:port. At least one.
	Servers []string
	// Root is the znode below which everything is: a path such as /zonecast, which
	// Open makes. Empty means DefaultRoot.
	Root string
	// Auth is "user:password" of ZooKeeper's digest scheme. The znodes are then
	// that user's alone; empty leaves them open to everybody who reaches the servers.
	Auth string
	// Spread is the longest pause before servers that were all tried in vain are tried again, for a
	// client that is one of thousands: they come back within about this time after an outage, not
	// all at once. 0: within a second.
	Spread time.Duration
	// Log is told about sessions lost, histories lost and dead sessions' nodes. Nil
	// discards.
	Log *slog.Logger

	// The log keeps at most this many entries and octets; 0: historyEntries and
	// historyBytes. For tests.
	entries, bytes int
	// lastEntry is the number after which a new generation begins; 0: lastEntry.
	lastEntry int64
}

// Validate tells what is wrong with the configuration, or nil.
func (c Config) Validate() error {
	if len(c.Servers) == 0 {
		return errors.New("store servers are missing, expected at least one such as 192.0.2.1:2181")
	}
	for _, a := range c.Servers {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return fmt.Errorf("store server %q, expected host:port", a)
		}
	}
	if c.Root != "" {
		if err := store.CheckPath(c.Root); err != nil {
			return fmt.Errorf("store root: %w", err)
		}
		if len(c.Root) > maxRoot {
			return fmt.Errorf("store root of %d octets, at most %d", len(c.Root), maxRoot)
		}
		if c.Root == "/zookeeper" || strings.HasPrefix(c.Root, "/zookeeper/") {
			return fmt.Errorf("store root %s is ZooKeeper's own, expected another", c.Root)
		}
	}
	if user, password, ok := strings.Cut(c.Auth, ":"); c.Auth != "" && (!ok || user == "" || password == "") {
		return errors.New("store credentials are not user:password")
	}
	return nil
}

// Store is a client of a ZooKeeper. It implements store.Store.
type Store struct {
	cfg  Config
	root string
	acl  []zk.ACL
	log  *slog.Logger
	tail *tail

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	setUp chan struct{} // holds one token: whoever has it may set up

	link atomic.Pointer[link] // changed by renew only

	mu       sync.Mutex // guards below
	closed   bool
	ready    bool // authenticated, and the root is there
	format   format
	bumps    map[int]int32 // versions of guards, by bucket
	bumpsOf  int64         // the ZooKeeper session in which these were read
	sessions map[*session]bool
	leases   map[time.Duration]*lease
	deaf     time.Time      // when the servers last gave no answer to a goodbye; zero once they did
	working  bool           // tail and janitor run
	wg       sync.WaitGroup // watches, sessions, tail, janitor; Add only with mu held and !closed
}

// Open makes a client. It does not wait for a server: a daemon must start, and
// serve what it has, while the store is dead. ctx is for Open only.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open store %q: %w", cfg.Servers, err)
	}
	s := &Store{
		cfg: cfg, root: cfg.Root, acl: zk.WorldACL(zk.PermAll), log: cfg.Log,
		setUp: make(chan struct{}, 1), bumps: make(map[int]int32),
		sessions: make(map[*session]bool), leases: make(map[time.Duration]*lease),
	}
	if s.root == "" {
		s.root = DefaultRoot
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if user, password, ok := strings.Cut(cfg.Auth, ":"); ok {
		s.acl = zk.DigestACL(zk.PermAll, user, password)
	} else {
		s.log.Warn("store is open: whoever reaches the ZooKeeper servers can read and change everything; see docs/store.md for user:password", "root", s.root)
	}
	s.tail = newTail(s)
	l, err := s.dial(0)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", cfg.Servers, err)
	}
	s.link.Store(l)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(func() { s.renew(s.ctx) })
	return s, nil
}

// dial makes the connection of the store; lost is for how many rounds there was no server.
func (s *Store) dial(lost int) (*link, error) {
	return dial(linkConfig{servers: s.cfg.Servers, timeout: mainTimeout, log: s.log, spread: s.cfg.Spread, lost: lost})
}

// conn is the connection for everything but keeping sessions alive.
func (s *Store) conn() *zk.Conn { return s.link.Load().conn }

// renew makes a new connection in the place of one on which nothing was heard for long
// after its ZooKeeper session must have ended: servers that were restored from an
// older copy refuse whoever has seen more, and the library asks them for ever.
func (s *Store) renew(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, renewTick)
		old := s.link.Load()
		if ctx.Err() != nil || old.silence() < renewAfter*time.Duration(old.granted.Load()) {
			continue
		}
		if s.cfg.Spread > 0 {
			if pause(ctx, mathrand.N(s.cfg.Spread)); ctx.Err() != nil || old.silence() < renewAfter*time.Duration(old.granted.Load()) {
				continue // it has found a server meanwhile
			}
		}
		l, err := s.dial(old.hosts.rounds())
		if err == nil {
			actx, cancel := context.WithTimeout(ctx, requestTimeout)
			err = authenticate(actx, l, s.cfg.Auth)
			cancel()
			if err != nil {
				l.close()
			}
		}
		if err != nil {
			s.log.Debug("connection of the store not renewed, trying again", "error", err)
			continue
		}
		s.mu.Lock()
		s.ready = false // it may be another store
		s.mu.Unlock()
		s.link.Store(l)
		old.close()
	}
}

// Close is store.Store.Close. Without a server its sessions' nodes stay until
// their ttl has passed, and Close says so in its error.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	open := make([]*session, 0, len(s.sessions))
	for ss := range s.sessions {
		open = append(open, ss)
	}
	s.mu.Unlock()
	errs := make([]error, len(open))
	var wg sync.WaitGroup
	for i, ss := range open {
		wg.Go(func() { errs[i] = ss.Close() })
	}
	wg.Wait()
	s.cancel()
	s.wg.Wait()
	s.link.Load().close()
	return errors.Join(errs...)
}

// begin counts one more watch or session in, unless the store is closed.
func (s *Store) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.wg.Add(1)
	return true
}

// work starts what a client needs that stays: the tail of the log, and the janitor.
func (s *Store) work() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.working {
		return
	}
	s.working = true
	s.wg.Go(func() { s.tail.run(s.ctx) })
	s.wg.Go(func() { s.janitor(s.ctx) })
}

// request gives a call its time; with the first, the root is set up. A store that
// is closing serves its own goodbyes: only ctx ends these.
func (s *Store) request(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if s.ctx.Err() != nil {
		return nil, nil, store.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, s.failure(ctx, err)
	}
	rctx, cancel := context.WithTimeout(ctx, requestTimeout)
	stop := context.AfterFunc(s.ctx, cancel)
	end := func() { stop(); cancel() }
	if err := s.prepare(rctx); err != nil {
		end()
		return nil, nil, s.failure(ctx, err)
	}
	return rctx, end, nil
}

// isClosed tells whether Close was called, for calls from outside: those of Close
// itself go on.
func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// read does a read again and again while it fails with its connection, or has no
// answer.
func read[T any](ctx context.Context, call func() (T, error)) (T, error) {
	for {
		tctx, cancel := context.WithTimeout(ctx, tryTimeout)
		v, err := await(tctx, call)
		late := tctx.Err() != nil
		cancel()
		if err == nil || !late && !mayRetryRead(err) {
			return v, err
		}
		if pause(ctx, retryPause); ctx.Err() != nil {
			return v, err
		}
	}
}

// znode is what is read of one.
type znode struct {
	data []byte
	stat zk.Stat
}

// get reads a znode; the error is zk.ErrNoNode when it is not there.
func (s *Store) get(ctx context.Context, path string) (znode, error) {
	return read(ctx, func() (znode, error) {
		data, st, err := s.conn().Get(path)
		if err != nil {
			return znode{}, err
		}
		return znode{data, *st}, nil
	})
}

// stat reads what is known of a znode; nil when it is not there.
func (s *Store) stat(ctx context.Context, path string) (*zk.Stat, error) {
	return read(ctx, func() (*zk.Stat, error) {
		there, st, err := s.conn().Exists(path)
		if err != nil || !there {
			return nil, err
		}
		return st, nil
	})
}

// children lists the names below a znode; none when that is not there.
func (s *Store) children(ctx context.Context, path string) ([]string, error) {
	return read(ctx, func() ([]string, error) {
		names, _, err := s.conn().Children(path)
		if errors.Is(err, zk.ErrNoNode) {
			return nil, nil
		}
		return names, err
	})
}

// sync makes the server we talk to catch up with the leader, so that what is read
// next is at least as new as what was acknowledged to anybody before.
func (s *Store) sync(ctx context.Context) error {
	_, err := read(ctx, func() (string, error) { return s.conn().Sync(s.root) })
	return err
}

// each calls do for 0 to n-1, atOnce at a time, and returns the first error.
func each(n int, do func(i int) error) error {
	if n == 1 {
		return do(0)
	}
	var mu sync.Mutex // guards below
	var next int
	var first error
	var wg sync.WaitGroup
	for range min(n, atOnce) {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				over := i >= n || first != nil
				mu.Unlock()
				if over {
					return
				}
				if err := do(i); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

func newID() string {
	var b [idLen / 2]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// prepare authenticates and sets the root up, once.
func (s *Store) prepare(ctx context.Context) error {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	if ready {
		return nil
	}
	select {
	case s.setUp <- struct{}{}:
		defer func() { <-s.setUp }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s.mu.Lock()
	ready = s.ready
	s.mu.Unlock()
	if ready {
		return nil
	}
	if err := authenticate(ctx, s.link.Load(), s.cfg.Auth); err != nil {
		return err
	}
	f, err := s.findRoot(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.ready, s.format = true, f
	s.mu.Unlock()
	return nil
}

// authenticate says who we are; the library says it again on each connection.
func authenticate(ctx context.Context, l *link, auth string) error {
	if auth == "" {
		return nil
	}
	_, err := read(ctx, func() (struct{}, error) { return struct{}{}, l.conn.AddAuth("digest", []byte(auth)) })
	return err
}

// findRoot reads the format, and makes the root when there is none.
func (s *Store) findRoot(ctx context.Context) (format, error) {
	for {
		f, err := s.readFormat(ctx)
		if !errors.Is(err, zk.ErrNoNode) {
			return f, err
		}
		if err := s.makeRoot(ctx); err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return format{}, err
		}
		if err := s.sync(ctx); err != nil {
			return format{}, err
		}
	}
}

func (s *Store) readFormat(ctx context.Context) (format, error) {
	z, err := s.get(ctx, s.root+formatName)
	if err != nil {
		return format{}, err
	}
	return s.parseFormat(z.data, &z.stat)
}

// makeRoot makes everything that is always there, in one multi. The log has an
// entry from the start, so that head's revision is always that of the newest entry.
func (s *Store) makeRoot(ctx context.Context) error {
	parts := strings.Split(s.root, "/")
	for i := 2; i <= len(parts); i++ {
		path := strings.Join(parts[:i], "/")
		if st, err := s.stat(ctx, path); err != nil {
			return err
		} else if st != nil {
			continue // ours or not: to try would need a permission on its parent
		}
		_, err := read(ctx, func() (string, error) { return s.conn().Create(path, nil, zk.FlagPersistent, s.acl) })
		if err != nil && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	ops := []any{
		s.create(s.root+formatName, format{}.encode(), zk.FlagPersistent),
		s.create(s.root+headName, nil, zk.FlagPersistent),
		s.create(s.root+logName, nil, zk.FlagPersistent),
		s.create(s.generation(0), nil, zk.FlagPersistent),
		s.create(s.generation(0)+"/"+entryPrefix, encodeChanges(nil), zk.FlagSequence),
		s.create(s.root+guardsName, nil, zk.FlagPersistent),
		s.create(s.root+sessionsName, nil, zk.FlagPersistent),
		s.create(s.root+ownedName, nil, zk.FlagPersistent),
		s.create(s.root+bulkName, nil, zk.FlagPersistent),
		s.create(s.root+treeName, nil, zk.FlagPersistent),
	}
	for b := range guards {
		ops = append(ops, s.create(s.guard(b), nil, zk.FlagPersistent))
	}
	_, err := await(ctx, func() ([]zk.MultiResponse, error) { return s.conn().Multi(ops...) })
	if mayRetryRead(err) {
		return nil // done or not: look again
	}
	return err
}

func (s *Store) create(path string, data []byte, flags int32) *zk.CreateRequest {
	return &zk.CreateRequest{Path: path, Data: data, Acl: s.acl, Flags: flags}
}

// Get is store.Store.Get.
func (s *Store) Get(ctx context.Context, path string) (store.Node, error) {
	if err := store.CheckPath(path); err != nil {
		return store.Node{}, fmt.Errorf("get: %w", err)
	}
	if s.isClosed() {
		return store.Node{}, fmt.Errorf("get %s: %w", path, store.ErrClosed)
	}
	n, _, err := s.node(ctx, path)
	if err != nil {
		return store.Node{}, fmt.Errorf("get %s: %w", path, err)
	}
	return n, nil
}

// node reads a node and whose it is, as new as anything acknowledged before.
func (s *Store) node(ctx context.Context, path string) (store.Node, string, error) {
	rctx, cancel, err := s.request(ctx)
	if err != nil {
		return store.Node{}, "", err
	}
	defer cancel()
	if err := s.sync(rctx); err != nil {
		return store.Node{}, "", s.failure(ctx, err)
	}
	z, err := s.get(rctx, s.leaf(path))
	if errors.Is(err, zk.ErrNoNode) {
		return store.Node{}, "", store.ErrNotFound
	}
	if err != nil {
		return store.Node{}, "", s.failure(ctx, err)
	}
	return node(path, z.data, &z.stat)
}
