package site

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

const (
	// syncEvery is how often what was appended to the disk is made durable.
	syncEvery = time.Minute
	// linger is how long a part of the tree is followed after its last watcher.
	linger = 30 * time.Second
	// rereadPause is the least time between two times that all of a part is read because it fits into
	// memory again, remeasure between two times that it is read because not even the sizes of its nodes
	// did.
	rereadPause = 10 * time.Second
	remeasure   = 10 * time.Minute
	// stopTime is for requests in work when the site stops.
	stopTime = time.Second
)

// Site serves the agents of a site.
type Site struct {
	cfg     Config
	log     *slog.Logger
	store   store.Store
	parts   tree.SiteParts
	metrics *metrics
	link    *uplink
	through *through
	reports *reports
	shelf   *shelf
	ln      net.Listener
	lock    *os.File
	caches  map[string]*cache // by prefix; each is its follower's
	ctx     context.Context   // ends with Run
	cancel  context.CancelFunc
	// wg has connections, what they began, and followers of mirrors that nobody asked for at the start.
	wg sync.WaitGroup

	mu      sync.Mutex // guards below
	conns   int
	mirrors map[string]*following
	trouble map[string]string // what a person should know, by what it is about
	said    time.Time         // when it was last logged that an agent watches what is not served
}

// following is a mirror and who needs it.
type following struct {
	*mirror
	users  int
	fixed  bool // one of SiteParts.Mirror
	cancel context.CancelFunc
}

// New takes the port and reads what is on the disk.
func New(cfg Config, deps Deps) (_ *Site, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Site{
		cfg: cfg, log: deps.Log, store: deps.Store, parts: deps.Tree,
		caches: map[string]*cache{}, mirrors: map[string]*following{}, trouble: map[string]string{},
	}
	if len(s.parts.Mirror)+len(s.parts.Read)+len(s.parts.Write) == 0 {
		s.parts = tree.Site()
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.link = &uplink{store: deps.Store, log: deps.Log, poke: make(chan struct{}, 1)}
	s.reports = newReports(s.ctx, deps.Store, s.link, deps.Log, cfg, &s.wg)
	s.through = newThrough(s.ctx, &s.wg)
	defer func() {
		if err != nil {
			s.cancel()
			err = errors.Join(err, s.close())
		}
	}()
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return nil, fmt.Errorf("proxy of a site: %w", err)
	}
	for _, prefix := range s.parts.Mirror {
		m := newMirror(prefix, cfg.MaxSize)
		c, asOf, lost, err := openCache(cfg.Dir, prefix, func(b store.Batch) { m.apply(b) })
		if err != nil {
			return nil, fmt.Errorf("proxy of a site: %w", err)
		}
		if lost != "" {
			s.log.Error("what the site kept is damaged, going on from what is left", "error", lost)
		}
		s.caches[prefix] = c
		s.mirrors[prefix] = &following{mirror: m, fixed: true, users: 1}
		if s.link.asOf.IsZero() || asOf.Before(s.link.asOf) {
			s.link.asOf = asOf
		}
	}
	fetcher := deps.Fetcher
	if fetcher == nil {
		fetcher = follow.HTTP{Log: deps.Log}
	}
	s.shelf = newShelf(cfg.Dir, fetcher, deps.Log)
	if s.metrics, err = newMetrics(deps.Metrics, s); err != nil {
		return nil, err
	}
	if s.ln, err = listen(cfg); err != nil {
		return nil, fmt.Errorf("proxy of a site: listen on %s: %w", cfg.Listen, err)
	}
	return s, nil
}

// Addr is where it listens.
func (s *Site) Addr() net.Addr { return s.ln.Addr() }

func listen(cfg Config) (net.Listener, error) {
	if path, ok := strings.CutPrefix(cfg.Listen, "unix:"); ok {
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			return nil, errors.Join(errors.New("another process listens there"), c.Close())
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		return net.Listen("unix", path)
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil || cfg.Cert == "" {
		return ln, err
	}
	pair, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
	if cfg.ClientCA != "" {
		pem, err := os.ReadFile(cfg.ClientCA)
		if err != nil {
			return nil, errors.Join(err, ln.Close())
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, errors.Join(fmt.Errorf("%s has no certificate (PEM)", cfg.ClientCA), ln.Close())
		}
	}
	return tls.NewListener(ln, c), nil
}

// Run serves until ctx ends. It is called once.
func (s *Site) Run(ctx context.Context) (err error) {
	var wg sync.WaitGroup
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.Path, s.upgrade)
	mux.Handle(wire.SnapshotPath, s.shelf)
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 90 * time.Second, IdleTimeout: idleTime, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.mu.Lock()
	for prefix, f := range s.mirrors {
		wg.Go(func() { s.keep(s.ctx, f.mirror, s.caches[prefix]) })
	}
	s.mu.Unlock()
	wg.Go(func() { s.link.ask(s.ctx, s.cfg.Confirm) })
	wg.Go(func() { s.reports.write(s.ctx) })
	wg.Go(func() { s.reports.sweep(s.ctx) })
	if m := s.mirrors[tree.Datasets]; m != nil && s.cfg.Snapshots {
		wg.Go(func() { s.shelf.follow(s.ctx, m.mirror) })
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(s.ln) }()
	select {
	case <-ctx.Done():
	case err = <-served:
		served <- err
		err = fmt.Errorf("serve agents on %s: %w", s.ln.Addr(), err)
	}
	s.cancel()
	limit, done := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer done()
	if srv.Shutdown(limit) != nil {
		_ = srv.Close() // its error is of what is closed already
	}
	<-served
	wg.Wait()
	s.wg.Wait()
	return errors.Join(err, s.close())
}

// close frees what New took.
func (s *Site) close() error {
	var errs []error
	for _, c := range s.caches {
		errs = append(errs, c.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// enter counts a connection in; false: there are too many.
func (s *Site) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns >= s.cfg.Most || s.ctx.Err() != nil {
		return false
	}
	s.conns++
	s.wg.Add(1)
	return true
}

func (s *Site) leave() {
	s.mu.Lock()
	s.conns--
	s.mu.Unlock()
	s.wg.Done()
}

// keep follows the store into a mirror, and onto the disk unless c is nil.
func (s *Site) keep(ctx context.Context, m *mirror, c *cache) {
	from := m.at()
	var read time.Time // when all was read again last
	for {
		look := s.keepOnce(ctx, m, c, from)
		if look == 0 {
			return // with ctx, or the store is closed
		}
		pause := max(0, time.Until(read.Add(look)))
		if look == remeasure {
			pause = look // from now on: it was measured just now
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		from, read = 0, time.Now()
	}
}

// keepOnce does that until everything is to be read again, no more often than it says; 0: it is over.
func (s *Site) keepOnce(ctx context.Context, m *mirror, c *cache, from store.Revision) (again time.Duration) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	batches := s.store.Watch(ctx, m.prefix, from)
	unsynced := false
	for {
		select {
		case <-ctx.Done():
			return 0
		case <-tick.C:
			if c != nil && unsynced {
				s.warn("disk "+m.prefix, c.sync())
				unsynced = false
			}
		case b, ok := <-batches:
			if !ok {
				return 0
			}
			b = m.apply(b)
			full, fits, unknown := m.tooLarge()
			if full {
				s.warn("size "+m.prefix, fmt.Errorf("%s has more than --proxy-agents-max-size, %d octets: it is not served to agents", m.prefix, s.cfg.MaxSize))
				if c != nil {
					s.warn("disk "+m.prefix, c.close()) // it will lack this: the next to be written is all
				}
				switch {
				case fits:
					return rereadPause
				case unknown:
					return remeasure
				}
				continue
			}
			s.warn("size "+m.prefix, nil)
			if c != nil {
				s.warn("disk "+m.prefix, c.save(time.Now(), b, func() store.Batch { all, _ := m.state(); return all }))
				unsynced = true
			}
		}
	}
}

// warn notes what a person should know; nil: it is over.
func (s *Site) warn(about string, err error) {
	s.mu.Lock()
	before := s.trouble[about]
	delete(s.trouble, about)
	if err != nil {
		s.trouble[about] = err.Error()
	}
	s.mu.Unlock()
	if err != nil && before == "" {
		s.log.Error("site is not kept as it should be", "about", about, "error", err)
	}
}

// sayEvery is the least time between two lines of the log of what agents do.
const sayEvery = time.Minute

// mayLog tells whether another line of what agents do may be logged: they may do it all the time.
func (s *Site) mayLog() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.said) < sayEvery {
		return false
	}
	s.said = time.Now()
	return true
}

// Troubles are what a person should know, now.
func (s *Site) Troubles() []string {
	var all []string
	if since, why := s.link.away(); !since.IsZero() {
		all = append(all, fmt.Sprintf("cut off from the store for %s, agents go on from here: %s", time.Since(since).Round(time.Second), why))
	}
	if text := s.reports.problem(); text != "" {
		all = append(all, text)
	}
	s.mu.Lock()
	for _, text := range s.trouble {
		all = append(all, text)
	}
	s.mu.Unlock()
	slices.Sort(all)
	return all
}

// status is what agents are told.
func (s *Site) status() wire.Status {
	since, _ := s.link.away()
	if since.IsZero() {
		return wire.Status{}
	}
	return wire.Status{Away: max(time.Millisecond, time.Since(since))}
}

// mirror is what a watch of prefix is served from: a part that is kept anyway, or one that is
// followed for as long as somebody watches.
func (s *Site) mirror(prefix string) (*mirror, func()) {
	if p := s.parts.Mirrored(prefix); p != "" {
		return s.mirrors[p].mirror, func() {} // these are never changed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.mirrors[prefix]
	if f == nil {
		ctx, cancel := context.WithCancel(s.ctx)
		f = &following{mirror: newMirror(prefix, s.cfg.MaxSize), cancel: cancel}
		s.mirrors[prefix] = f
		s.wg.Go(func() { s.keep(ctx, f.mirror, nil) })
	}
	f.users++
	return f.mirror, func() { s.release(prefix, f) }
}

// release gives a mirror up a while after its last user.
func (s *Site) release(prefix string, f *following) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.users--; f.users > 0 {
		return
	}
	time.AfterFunc(linger, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if f.users == 0 && s.mirrors[prefix] == f {
			delete(s.mirrors, prefix)
			f.cancel()
		}
	})
}

// mayRead tells why a path or prefix, which is bad for the reason err unless that is nil, is not
// read here.
func (s *Site) mayRead(path string, err error) error {
	if err != nil {
		return err
	}
	if !s.parts.CanRead(path) {
		return fmt.Errorf("%s is not served by the proxy of a site", path)
	}
	return nil
}

// get is the node at path.
func (s *Site) get(ctx context.Context, path string) (store.Node, error) {
	if err := s.mayRead(path, store.CheckPath(path)); err != nil {
		return store.Node{}, fmt.Errorf("get: %w", err)
	}
	if p := s.parts.Mirrored(path); p != "" {
		if n, found, ok := s.mirrors[p].get(path); ok {
			if !found {
				return n, fmt.Errorf("get %s: %w", path, store.ErrNotFound)
			}
			return n, nil
		}
	}
	r, err := s.read(ctx, path, func(ctx context.Context) ([]store.Node, store.Revision, error) {
		n, err := s.store.Get(ctx, path)
		return []store.Node{n}, 0, err
	})
	if err == nil && len(r.nodes) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Node{}, fmt.Errorf("get %s: %w", path, err)
	}
	return r.nodes[0], nil
}

// list is what is below prefix, as an answer: those who ask at the same time share it.
func (s *Site) list(ctx context.Context, prefix string) (*wire.Message, error) {
	if err := s.mayRead(prefix, store.CheckPrefix(prefix)); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	if p := s.parts.Mirrored(prefix); p != "" {
		if m := s.mirrors[p].list(prefix); m != nil {
			return m, nil
		}
	}
	r, err := s.read(ctx, prefix, func(ctx context.Context) ([]store.Node, store.Revision, error) { return s.store.List(ctx, prefix) })
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	m := r.message()
	if m.Size() > wire.MaxAnswer {
		return nil, fmt.Errorf("list %s: %d octets, at most %d", prefix, m.Size(), wire.MaxAnswer)
	}
	return m, nil
}

// read asks the store; while that is away, what it said last and what agents of this site
// report stand in.
func (s *Site) read(ctx context.Context, key string, do func(context.Context) ([]store.Node, store.Revision, error)) (result, error) {
	cut := s.link.cut()
	if cut == nil {
		r, err := s.through.get(ctx, key, do)
		if !errors.Is(err, store.ErrUnavailable) {
			return r, err
		}
		s.link.answered(r.at, err)
		cut = err
	}
	last, known := s.through.last(key)
	r := s.reports.over(key, last)
	if !known && (len(r.nodes) == 0 || s.parts.Mirrored(key) != "") {
		return result{}, cut
	}
	return r, nil
}

// commit does a transaction, of a session unless the token is zero.
func (s *Site) commit(ctx context.Context, token wire.Token, txn store.Txn) (store.Revision, error) {
	for _, c := range txn.If {
		if err := s.mayRead(c.Path, nil); err != nil {
			return 0, fmt.Errorf("commit: %w", err)
		}
	}
	for _, o := range txn.Do {
		if !s.parts.CanWrite(o.Path) {
			return 0, fmt.Errorf("commit: %s is not written through the proxy of a site", o.Path)
		}
	}
	var rev store.Revision
	var err error
	if token != (wire.Token{}) {
		rev, err = s.reports.commit(ctx, token, txn)
	} else if err = s.link.cut(); err == nil {
		at := time.Now()
		uctx, cancel := context.WithTimeout(ctx, upTime)
		rev, err = s.store.Commit(uctx, txn)
		cancel()
		s.link.answered(at, err)
		if err == nil {
			s.reports.forget(txn.Do)
		}
	}
	if err != nil {
		return 0, err
	}
	s.shown(ctx, rev, txn.Do)
	return rev, nil
}

// end ends a session.
func (s *Site) end(ctx context.Context, token wire.Token) error {
	rev, ops, err := s.reports.end(ctx, token)
	if err == nil {
		s.shown(ctx, rev, ops)
	}
	return err
}

// shown waits until what was done shows in what is served: whoever did it must see it. The
// store being away ends that.
func (s *Site) shown(ctx context.Context, rev store.Revision, ops []store.Op) {
	s.mu.Lock()
	var all []*mirror
	for _, f := range s.mirrors {
		if f.fixed || f.users > 0 {
			all = append(all, f.mirror)
		}
	}
	s.mu.Unlock()
	limit := time.NewTimer(upTime)
	defer limit.Stop()
	for _, m := range all {
		if !slices.ContainsFunc(ops, func(o store.Op) bool { return strings.HasPrefix(o.Path, m.prefix) }) {
			continue
		}
		for s.link.cut() == nil {
			ok, wait := m.has(rev, ops)
			if ok {
				break
			}
			select {
			case <-wait:
				continue
			case <-limit.C:
			case <-ctx.Done():
			}
			return
		}
	}
}
