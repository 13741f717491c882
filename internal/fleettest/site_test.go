package fleettest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/proxy/site"
	"github.com/zonecast/zonecast/publisher"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/proxied"
)

// uplink is a site's line to the store: it can be cut, and counts what goes over it.
type uplink struct {
	store.Store
	mu       sync.Mutex // guards below
	down     bool
	changed  chan struct{} // closed and replaced when down changes
	sessions map[*upSession]bool
	watches  map[string]int // begun, by prefix
	batches  int
	reads    int
	commits  int
	ops      int
}

func newUplink(st store.Store) *uplink {
	return &uplink{Store: st, changed: make(chan struct{}), sessions: map[*upSession]bool{}, watches: map[string]int{}}
}

// cut cuts the line, or mends it. Sessions end at the store when their ttl has passed.
func (u *uplink) cut(down bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down = down
	close(u.changed)
	u.changed = make(chan struct{})
	for s := range u.sessions {
		if down {
			s.timer = time.AfterFunc(s.ttl, func() { _ = s.Session.Close() })
		} else if s.timer != nil {
			s.timer.Stop()
		}
	}
}

// reset forgets what was counted.
func (u *uplink) reset() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.watches, u.batches, u.reads, u.commits, u.ops = map[string]int{}, 0, 0, 0, 0
}

var errCut = fmt.Errorf("the test has cut the uplink: %w", store.ErrUnavailable)

func (u *uplink) count(n *int) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.down {
		return errCut
	}
	*n++
	return nil
}

func (u *uplink) Get(ctx context.Context, path string) (store.Node, error) {
	if err := u.count(&u.reads); err != nil {
		return store.Node{}, err
	}
	return u.Store.Get(ctx, path)
}

func (u *uplink) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	err := u.count(&u.reads)
	if strings.Contains(prefix, "@") {
		u.mu.Lock()
		u.reads-- // asks whether the store is there
		u.mu.Unlock()
	}
	if err != nil {
		return nil, 0, err
	}
	return u.Store.List(ctx, prefix)
}

func (u *uplink) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if err := u.count(&u.commits); err != nil {
		return 0, err
	}
	return u.Store.Commit(ctx, txn)
}

// Watch passes batches on while the line is up.
func (u *uplink) Watch(ctx context.Context, prefix string, from store.Revision) <-chan store.Batch {
	u.mu.Lock()
	u.watches[prefix]++
	u.mu.Unlock()
	out := make(chan store.Batch)
	go func() {
		defer close(out)
		for b := range u.Store.Watch(ctx, prefix, from) {
			for {
				u.mu.Lock()
				down, changed := u.down, u.changed
				u.batches++
				u.mu.Unlock()
				if !down {
					break
				}
				select {
				case <-changed:
				case <-ctx.Done():
					return
				}
			}
			select {
			case out <- b:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

type upSession struct {
	store.Session
	u     *uplink
	ttl   time.Duration
	timer *time.Timer
}

func (u *uplink) Session(ctx context.Context, ttl time.Duration) (store.Session, error) {
	if err := u.count(new(int)); err != nil {
		return nil, err
	}
	inner, err := u.Store.Session(ctx, ttl)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	s := &upSession{Session: inner, u: u, ttl: ttl}
	u.sessions[s] = true
	return s, nil
}

func (s *upSession) Commit(ctx context.Context, txn store.Txn) (store.Revision, error) {
	if err := s.u.count(&s.u.commits); err != nil {
		return 0, err
	}
	s.u.mu.Lock()
	s.u.ops += len(txn.Do)
	s.u.mu.Unlock()
	return s.Session.Commit(ctx, txn)
}

// atSite puts a proxy before the store for the hosts that are made from now on.
func (f *fleet) atSite() (link *uplink, restart func()) {
	f.t.Helper()
	link = newUplink(f.st.Peer())
	f.t.Cleanup(func() { _ = link.Store.Close() })
	cfg := site.DefaultConfig()
	cfg.Dir, cfg.Listen = filepath.Join(f.dir, "site"), "unix:"+filepath.Join(f.dir, "agents")
	cfg.Confirm, cfg.SessionTTL = 100*time.Millisecond, time.Second
	var stop func()
	restart = func() {
		f.t.Helper()
		if stop != nil {
			stop()
		}
		f.reg["site"] = prometheus.NewRegistry()
		s, err := site.New(cfg, site.Deps{Store: link, Log: f.log, Metrics: f.reg["site"]})
		if err != nil {
			f.t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		stop = sync.OnceFunc(func() {
			cancel()
			if err := <-done; err != nil {
				f.t.Errorf("proxy of the site: %v", err)
			}
		})
		f.t.Cleanup(stop)
	}
	restart()
	f.behind = func() (store.Store, follow.Fetcher) {
		st, err := proxied.Open(context.Background(), proxied.Config{Endpoints: []string{cfg.Listen}, Log: f.log})
		if err != nil {
			f.t.Fatal(err)
		}
		client, base := st.Client()
		return st, follow.FirstOf{follow.Base{HTTP: follow.HTTP{Client: client}, URL: base}, follow.HTTP{}}
	}
	return link, restart
}

// TestSite has agents behind the proxy of their site: they follow over one watch; with the
// uplink cut they stay where they are, and begin anew, also one that has nothing and after the
// proxy's own restart; when it is back they follow, and what they report is at the store, for
// less than one request each.
func TestSite(t *testing.T) {
	f := newFleet(t)
	f.some(3)
	p, publishing := f.publisherAt("p", func(c *publisher.Config) { c.SnapshotEvery, c.SnapshotPause = 5, 0 })
	link, restart := f.atSite()
	const agents = 20
	var hosts []*host
	for i := range agents {
		hosts = append(hosts, f.host(fmt.Sprintf("host%d", i)))
	}
	all := func(hosts []*host, what func(*host)) {
		for _, h := range hosts {
			what(h)
		}
	}
	all(hosts, (*host).reaches)
	eventually(t, "a trimmed log", func() bool {
		f.some(1)
		return f.manifest(p).Oldest > 2
	})
	all(hosts, (*host).reaches)
	all(hosts, func(h *host) { h.serve(h.look()) })
	eventually(t, "reports", func() bool {
		nodes, _, err := f.st.List(t.Context(), tree.Hosts)
		return err == nil && len(nodes) == agents
	})
	link.mu.Lock()
	for _, prefix := range tree.Site().Mirror {
		if n := link.watches[prefix]; n != 1 {
			t.Errorf("%d watches of %s at the store, expected 1 for %d agents", n, prefix, agents)
		}
	}
	if link.reads > agents/2 {
		t.Errorf("%d reads of the store for %d agents, expected fewer than one for two", link.reads, agents)
	}
	link.mu.Unlock()
	eventually(t, "the snapshot at the site", func() bool {
		files, _ := filepath.Glob(filepath.Join(f.dir, "site", "snapshots", "*.snapshot"))
		return len(files) > 0 && strings.Contains(strings.Join(files, " "), f.manifest(p).Snapshot.ID.String())
	})
	eventually(t, "the last manifest at the site", func() bool { return f.manifest(p).Version == f.d.Version() })
	all(hosts, (*host).reaches)

	// Cut off, and the publisher dead for those who would ask it for the snapshot.
	before := f.d.Version()
	link.cut(true)
	publishing.stop()
	eventually(t, "the hosts are gone at the store", func() bool {
		nodes, _, err := f.st.List(t.Context(), tree.Hosts)
		return err == nil && len(nodes) == 0
	})
	restart()
	hosts[0].restart()
	newcomer := f.host("newcomer")
	hosts = append(hosts, newcomer)
	for _, h := range []*host{hosts[0], newcomer} {
		eventually(t, h.name+" has what the site has", func() bool { return h.a.Status().Version == before })
	}
	mine, _ := f.behind()
	defer mine.Close()
	eventually(t, "the hosts see each other", func() bool {
		nodes, _, err := mine.List(t.Context(), tree.Hosts)
		return err == nil && len(nodes) == len(hosts)
	})
	if _, err := mine.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.Hosts + "by-hand"}}}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("Commit past sessions while cut off: error is %v, expected unavailable", err)
	}

	// Back.
	f.some(4)
	link.reset()
	link.cut(false)
	_, _ = f.publisherAt("p", func(c *publisher.Config) { c.SnapshotEvery = 1000 })
	all(hosts, (*host).reaches)
	all(hosts, func(h *host) { h.serve(h.look()) })
	eventually(t, "reports", func() bool {
		nodes, _, err := f.st.List(t.Context(), tree.Hosts)
		return err == nil && len(nodes) == len(hosts)
	})
	link.mu.Lock()
	defer link.mu.Unlock()
	if len(link.watches) > 0 || link.reads > agents/2 {
		t.Errorf("when the uplink is back: watches %v begun and %d reads, expected the old watches and fewer than one read for two agents", link.watches, link.reads)
	}
	// Each host tells of itself and of whom it believes, and again for versions that it takes meanwhile.
	if link.ops > 6*len(hosts) || link.commits > link.ops/2+len(hosts) {
		t.Errorf("when the uplink is back: %d transactions with %d nodes for %d hosts", link.commits, link.ops, len(hosts))
	}
	f.moved("site", "zonecast_site_agents", "zonecast_site_watches", "zonecast_site_sent_bytes_total", "zonecast_site_store_commits_total", "zonecast_site_kept_total")
}
