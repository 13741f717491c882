package proxied

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

// Our own choices.
const (
	// requestTimeout bounds each request, also when the caller's ctx would wait longer.
	requestTimeout = 5 * time.Second
	// dialTimeout bounds connecting and the handshake.
	dialTimeout = 3 * time.Second
	// pingEvery is how often the proxy is asked for a sign of life; without one, or anything
	// else, for pingTimeout the connection is left for another.
	pingEvery   = 3 * time.Second
	pingTimeout = 9 * time.Second
	// After a lost connection the next try comes after a pause that doubles, each of a
	// random part of it: the agents of a site come back one after another.
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
	// writeTimeout bounds how long a frame waits for room on the way.
	writeTimeout = 10 * time.Second
)

// Config says which proxy.
type Config struct {
	// Endpoints of proxies of one store, host:port, or unix:/path. One of them is used.
	Endpoints []string
	// TLS, unless nil, is what connections to host:port are made with.
	TLS *tls.Config
	// Log is told when the proxy is lost and found, and when it is itself cut off. Nil discards.
	Log *slog.Logger
	// Dial makes connections. Nil means the network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Validate tells what is wrong with the configuration, or nil.
func (c Config) Validate() error {
	if len(c.Endpoints) == 0 {
		return errors.New("no proxy is named, expected HOST:PORT or a path")
	}
	for _, e := range c.Endpoints {
		if path, ok := strings.CutPrefix(e, "unix:"); ok {
			if !strings.HasPrefix(path, "/") {
				return fmt.Errorf("proxy is %q, expected unix:/PATH", e)
			}
			continue
		}
		host, port, err := net.SplitHostPort(e)
		if err != nil || host == "" || port == "" {
			return fmt.Errorf("proxy is %q, expected HOST:PORT", e)
		}
	}
	return nil
}

// Store is a client of a proxy. It implements store.Store.
type Store struct {
	cfg    Config
	log    *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup // everything that runs; Add only with mu held and !closed

	mu       sync.Mutex // guards below
	closed   bool
	conn     *conn         // nil while there is none
	changed  chan struct{} // closed and replaced when conn changes
	hurry    chan struct{} // closed and replaced when signs of life are needed more often
	why      error         // why there is no conn, last
	nextID   uint64
	watches  map[uint64]*watch
	sessions map[*session]bool
	away     time.Duration // how long the store behind the proxy does not answer
}

// Open makes a client. It does not wait for a proxy.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open proxy %q: %w", cfg.Endpoints, err)
	}
	s := &Store{
		cfg: cfg, log: cfg.Log, changed: make(chan struct{}), hurry: make(chan struct{}), why: errors.New("not connected yet"),
		watches: map[uint64]*watch{}, sessions: map[*session]bool{},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		s.connect()
	}()
	return s, nil
}

// Close is store.Store.Close.
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
	var wg sync.WaitGroup
	errs := make([]error, len(open))
	for i, ss := range open {
		wg.Go(func() { errs[i] = ss.Close() })
	}
	wg.Wait()
	s.cancel()
	s.wg.Wait()
	return errors.Join(errs...)
}

// Away is how long the store behind the proxy has not answered, as the proxy last said; 0: it does.
func (s *Store) Away() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away
}

// Client is an HTTP client whose requests go to a proxy, whatever host their URL names, and
// Base the URL below which that has snapshots by their id.
func (s *Store) Client() (client *http.Client, base string) {
	transport := &http.Transport{
		DisableKeepAlives: true, DisableCompression: true,
		DialContext:    func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, s.pick()) },
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.dial(ctx, s.pick()) },
	}
	return &http.Client{Transport: transport}, "http://proxy" + wire.SnapshotPath
}

// pick is the endpoint in use, or any.
func (s *Store) pick() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		return s.conn.endpoint
	}
	return s.cfg.Endpoints[rand.IntN(len(s.cfg.Endpoints))]
}

// dial connects to an endpoint.
func (s *Store) dial(ctx context.Context, endpoint string) (net.Conn, error) {
	dial := s.cfg.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: pingEvery}).DialContext
	}
	if path, ok := strings.CutPrefix(endpoint, "unix:"); ok {
		return dial(ctx, "unix", path)
	}
	c, err := dial(ctx, "tcp", endpoint)
	if err != nil || s.cfg.TLS == nil {
		return c, err
	}
	cfg := s.cfg.TLS.Clone()
	if cfg.ServerName == "" {
		host, _, _ := net.SplitHostPort(endpoint) // Validate has split it
		cfg.ServerName = host
	}
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return t, nil
}

// connect keeps a connection until Close.
func (s *Store) connect() {
	pause := firstPause
	for s.ctx.Err() == nil {
		var err error
		endpoints := slices.Clone(s.cfg.Endpoints)
		rand.Shuffle(len(endpoints), func(i, k int) { endpoints[i], endpoints[k] = endpoints[k], endpoints[i] })
		for _, e := range endpoints {
			var c *conn
			if c, err = s.handshake(e); err != nil {
				err = fmt.Errorf("%s: %w", e, err)
				continue
			}
			began := time.Now()
			s.log.Debug("proxy connected", "endpoint", e)
			err = fmt.Errorf("%s: %w", e, s.serve(c))
			if s.ctx.Err() == nil {
				s.log.Info("proxy lost, connecting again", "endpoint", e, "error", err)
			}
			if time.Since(began) > lastPause {
				pause = firstPause
			}
			break
		}
		s.mu.Lock()
		s.why = err
		s.mu.Unlock()
		select {
		case <-s.ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		}
		pause = min(2*pause, lastPause)
	}
}

// conn is one connection.
type conn struct {
	net.Conn
	endpoint string
	r        *bufio.Reader
	dead     chan struct{} // closed when it is given up
	err      error         // why; set before dead is closed

	wmu sync.Mutex // guards writing

	mu      sync.Mutex // guards below
	waiting map[uint64]*call
}

// call is a request under way.
type call struct {
	done  chan struct{} // closed with what is below set
	frame wire.Frame
	parts [][]byte
	size  int
}

// handshake connects and changes to the protocol.
func (s *Store) handshake(endpoint string) (_ *conn, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
	defer cancel()
	nc, err := s.dial(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, nc.Close())
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) }) // ends what waits
	defer stop()
	req, err := http.NewRequest(http.MethodGet, "http://proxy"+wire.Path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", wire.Protocol)
	if err := req.Write(nc); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(nc, 64<<10)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, fmt.Errorf("not a proxy: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != wire.Protocol {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // what it says is of use, if it says anything
		return nil, fmt.Errorf("status is %s, expected 101 and %s: %q", resp.Status, wire.Protocol, text)
	}
	if !stop() {
		return nil, fmt.Errorf("handshake: %w", cmp.Or(ctx.Err(), context.DeadlineExceeded))
	}
	return &conn{Conn: nc, endpoint: endpoint, r: r, dead: make(chan struct{}), waiting: map[uint64]*call{}}, nil
}

// serve uses a connection until it breaks and returns why.
func (s *Store) serve(c *conn) error {
	ctx, cancel := context.WithCancel(s.ctx)
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // ends reading
	read := make(chan error, 1)
	go func() { read <- s.read(c) }()
	s.mu.Lock()
	s.conn = c
	s.announce()
	var begin [][]byte
	for id, w := range s.watches {
		w.parts, w.size = nil, 0
		begin = append(begin, wire.Frame{Kind: wire.Watch, ID: id, Payload: wire.AppendWatch(nil, w.prefix, w.rev)}.Append(nil))
	}
	sessions := make([]*session, 0, len(s.sessions))
	for ss := range s.sessions {
		sessions = append(sessions, ss)
	}
	s.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, ss := range sessions {
			ss.resume(ctx, c)
		}
		for _, f := range begin {
			if c.write(f) != nil {
				return // the reader ends, too
			}
		}
		s.ping(ctx, c)
	})
	err := <-read
	cancel()
	stop()
	_ = c.Close() // nothing more is said
	c.err = err
	close(c.dead)
	s.mu.Lock()
	s.conn, s.why = nil, fmt.Errorf("%s: %w", c.endpoint, err)
	s.announce()
	s.mu.Unlock()
	wg.Wait()
	return err
}

// announce wakes who waits for a connection. The caller holds mu.
func (s *Store) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// ping asks for signs of life, often enough for every session.
func (s *Store) ping(ctx context.Context, c *conn) {
	for {
		sent := time.Now()
		pctx, cancel := context.WithTimeout(ctx, pingTimeout)
		f, _, err := s.ask(pctx, c, wire.Ping, nil)
		cancel()
		if ctx.Err() != nil {
			return
		}
		var st wire.Status
		if err == nil {
			st, err = wire.ParseStatus(f.Payload)
		}
		if err != nil {
			_ = c.Close() // the reader ends
			return
		}
		s.heard(st)
		every := pingEvery
		s.mu.Lock()
		for ss := range s.sessions {
			ss.heard(c, sent)
			every = min(every, ss.ttl/4)
		}
		hurry := s.hurry
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-hurry:
		case <-time.After(every):
		}
	}
}

// heard notes how it stands with the store behind the proxy.
func (s *Store) heard(st wire.Status) {
	s.mu.Lock()
	before := s.away
	s.away = st.Away
	s.mu.Unlock()
	switch {
	case before == 0 && st.Away > 0:
		s.log.Warn("the site is cut off from the store, going on from the proxy", "away", st.Away)
	case before > 0 && st.Away == 0:
		s.log.Info("the site reaches the store again", "away", before)
	}
}

// read takes in what the proxy says until the connection breaks.
func (s *Store) read(c *conn) error {
	for {
		if err := c.SetReadDeadline(time.Now().Add(pingTimeout)); err != nil {
			return err
		}
		f, err := wire.Read(c.r)
		if err != nil {
			return err
		}
		switch f.Kind {
		case wire.Lost:
			t, err := wire.ParseToken(f.Payload)
			if err != nil {
				return err
			}
			s.lost(t)
		case wire.Batch:
			if err := s.batch(f); err != nil {
				return err
			}
		case wire.Part:
			if err := s.part(c, f); err != nil {
				return err
			}
		case wire.Answer, wire.Refusal:
			c.mu.Lock()
			w := c.waiting[f.ID]
			delete(c.waiting, f.ID)
			c.mu.Unlock()
			if w != nil { // nil: given up
				w.frame = f
				close(w.done)
			}
		default:
			return fmt.Errorf("frame of kind %d, which no proxy sends", f.Kind)
		}
	}
}

// part keeps a part of a long answer or batch.
func (s *Store) part(c *conn, f wire.Frame) error {
	s.mu.Lock()
	w := s.watches[f.ID]
	if w != nil {
		w.size += len(f.Payload)
		w.parts = append(w.parts, f.Payload)
	}
	s.mu.Unlock()
	size := 0
	if w != nil {
		size = w.size
	} else {
		c.mu.Lock()
		if one := c.waiting[f.ID]; one != nil {
			one.size += len(f.Payload)
			one.parts = append(one.parts, f.Payload)
			size = one.size
		}
		c.mu.Unlock()
	}
	if size > wire.MaxAnswer {
		return fmt.Errorf("an answer has more than %d octets", wire.MaxAnswer)
	}
	return nil
}

func (c *conn) write(b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		_ = c.Close() // half a frame may be on the way
		return err
	}
	return nil
}

// errBroken is wrapped when a connection broke under a request.
var errBroken = errors.New("the connection broke")

// ask makes a request on one connection.
func (s *Store) ask(ctx context.Context, c *conn, kind wire.Kind, payload []byte) (wire.Frame, [][]byte, error) {
	s.mu.Lock()
	s.nextID++
	id := s.nextID
	s.mu.Unlock()
	w := &call{done: make(chan struct{})}
	c.mu.Lock()
	c.waiting[id] = w
	c.mu.Unlock()
	forget := func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}
	if err := c.write(wire.Frame{Kind: kind, ID: id, Payload: payload}.Append(nil)); err != nil {
		forget()
		return wire.Frame{}, nil, fmt.Errorf("%w: %w: %w", store.ErrUnavailable, errBroken, err)
	}
	select {
	case <-w.done:
	case <-c.dead:
		select {
		case <-w.done: // just in time
		default:
			return wire.Frame{}, nil, fmt.Errorf("%w: %w: %w", store.ErrUnavailable, errBroken, c.err)
		}
	case <-ctx.Done():
		forget()
		return wire.Frame{}, nil, ctx.Err()
	}
	if w.frame.Kind == wire.Refusal {
		return wire.Frame{}, nil, wire.ParseError(w.frame.Payload)
	}
	return w.frame, w.parts, nil
}

// request makes a request on the connection there is, or the next one. One that may be made
// twice is made again when the connection breaks.
func (s *Store) request(ctx context.Context, kind wire.Kind, payload []byte, twice bool) (wire.Frame, [][]byte, error) {
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return wire.Frame{}, nil, err
	}
	rctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for {
		c, err := s.connection(rctx)
		if err == nil {
			var f wire.Frame
			var parts [][]byte
			f, parts, err = s.ask(rctx, c, kind, payload)
			if err == nil {
				return f, parts, nil
			}
			if twice && errors.Is(err, errBroken) && rctx.Err() == nil && s.ctx.Err() == nil {
				continue
			}
		}
		return wire.Frame{}, nil, s.failure(ctx, rctx, err)
	}
}

// connection waits for one.
func (s *Store) connection(ctx context.Context) (*conn, error) {
	for {
		s.mu.Lock()
		c, changed, why := s.conn, s.changed, s.why
		s.mu.Unlock()
		if s.ctx.Err() != nil {
			return nil, store.ErrClosed
		}
		if c != nil {
			return c, nil
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: no proxy: %w", store.ErrUnavailable, why)
		}
	}
}

// failure is err as callers of store.Store branch on it. ctx is the caller's, rctx the request's.
func (s *Store) failure(ctx, rctx context.Context, err error) error {
	switch {
	case s.ctx.Err() != nil:
		return store.ErrClosed
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	case errors.Is(err, store.ErrUnavailable):
		return err
	case rctx.Err() != nil:
		return fmt.Errorf("%w: no answer of the proxy in time: %w", store.ErrUnavailable, cmp.Or(ctx.Err(), rctx.Err()))
	}
	return err
}

// open tells whether the store is not closed.
func (s *Store) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	return nil
}

// Get is store.Store.Get.
func (s *Store) Get(ctx context.Context, path string) (store.Node, error) {
	if err := store.CheckPath(path); err != nil {
		return store.Node{}, fmt.Errorf("get: %w", err)
	}
	err := s.open()
	var f wire.Frame
	if err == nil {
		f, _, err = s.request(ctx, wire.Get, wire.AppendPath(nil, path), true)
	}
	var n store.Node
	if err == nil {
		n, err = wire.ParseNode(f.Payload)
	}
	if err != nil {
		return store.Node{}, fmt.Errorf("get %s: %w", path, err)
	}
	return n, nil
}

// List is store.Store.List.
func (s *Store) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	if err := store.CheckPrefix(prefix); err != nil {
		return nil, 0, fmt.Errorf("list: %w", err)
	}
	nodes, rev, err := s.list(ctx, prefix)
	if err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
	}
	return nodes, rev, nil
}

func (s *Store) list(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	if err := s.open(); err != nil {
		return nil, 0, err
	}
	f, parts, err := s.request(ctx, wire.List, wire.AppendPath(nil, prefix), true)
	if err != nil {
		return nil, 0, err
	}
	nodes, err := nodesOf(parts)
	if err != nil {
		return nil, 0, err
	}
	last, rev, err := wire.ParseList(f.Payload)
	return append(nodes, last...), rev, err
}

// nodesOf reads parts.
func nodesOf(parts [][]byte) ([]store.Node, error) {
	var nodes []store.Node
	for _, p := range parts {
		some, err := wire.ParseNodes(p)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, some...)
	}
	return nodes, nil
}

// Commit is store.Store.Commit.
func (s *Store) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	return s.commit(ctx, wire.Token{}, txn)
}

func (s *Store) commit(ctx context.Context, session wire.Token, txn store.Txn) (store.Revision, error) {
	if err := txn.Check(); err != nil {
		return 0, fmt.Errorf("commit: %w", err)
	}
	err := s.open()
	var f wire.Frame
	if err == nil {
		f, _, err = s.request(ctx, wire.Commit, wire.AppendTxn(nil, session, txn), false)
	}
	var rev store.Revision
	if err == nil {
		rev, err = wire.ParseRevision(f.Payload)
	}
	if err != nil {
		return 0, fmt.Errorf("commit %s: %w", txn.Do[0].Path, err)
	}
	return rev, nil
}
