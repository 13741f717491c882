package site_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/proxy/site"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/proxied"
	"github.com/zonecast/zonecast/store/storetest"
)

// gate is the network between clients and a proxy.
type gate struct {
	mu    sync.Mutex // guards below
	down  bool
	conns map[net.Conn]bool
}

func newGate() *gate { return &gate{conns: map[net.Conn]bool{}} }

func (g *gate) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil && g.down {
		err = errors.Join(errors.New("the test has cut the network"), c.Close())
	}
	if err != nil {
		return nil, err
	}
	g.conns[c] = true
	return c, nil
}

func (g *gate) set(up bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = !up
	if !up {
		for c := range g.conns {
			c.Close()
		}
		clear(g.conns)
	}
}

// client is a client of a proxy, with the network before it.
type client struct {
	*proxied.Store
	tree *served
	own  *gate
}

// served is a tree and the proxy before it.
type served struct {
	up     *memstore.Store
	socket string
	net    *gate // of all clients
}

func (s *served) client(t testing.TB) *client {
	t.Helper()
	own := newGate()
	p, err := proxied.Open(t.Context(), proxied.Config{
		Endpoints: []string{"unix:" + s.socket},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := s.net.dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			own.mu.Lock()
			defer own.mu.Unlock()
			if own.down {
				return nil, errors.Join(errors.New("the client is dead"), c.Close())
			}
			own.conns[c] = true
			return c, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &client{Store: p, tree: s, own: own}
}

// whole serves the whole tree.
func whole(mirror bool) tree.SiteParts {
	if mirror {
		return tree.SiteParts{Mirror: []string{"/"}, Write: []string{"/"}}
	}
	return tree.SiteParts{Read: []string{"/"}, Write: []string{"/"}}
}

// config is that of a proxy in a test.
func config(dir string) site.Config {
	cfg := site.DefaultConfig()
	cfg.Listen, cfg.Dir, cfg.Pace = "unix:"+filepath.Join(dir, "s"), filepath.Join(dir, "site"), time.Millisecond
	cfg.Confirm, cfg.SessionTTL = 100*time.Millisecond, time.Second
	return cfg
}

// run runs a proxy until the test ends or stop is called.
func run(t testing.TB, cfg site.Config, deps site.Deps) (s *site.Site, stop func()) {
	t.Helper()
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Metrics == nil {
		deps.Metrics = prometheus.NewRegistry()
	}
	s, err := site.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// TestContract holds the store, seen through a proxy, against what package store promises. What
// does not hold: nobody is elected.
func TestContract(t *testing.T) {
	for name, parts := range map[string]tree.SiteParts{"Mirrored": whole(true), "Through": whole(false)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) store.Store {
				dir := t.TempDir()
				up := memstore.New()
				t.Cleanup(func() { up.Close() })
				cfg := config(dir)
				run(t, cfg, site.Deps{Store: up, Tree: parts})
				return (&served{up: up, socket: filepath.Join(dir, "s"), net: newGate()}).client(t)
			}, storetest.Options{
				Peer: func(t *testing.T, s store.Store) store.Store { return s.(*client).tree.client(t) },
				Die: func(t *testing.T, s store.Store) {
					s.(*client).own.set(false)
				},
				Compact:      func(t *testing.T, s store.Store) { s.(*client).tree.up.Compact() },
				SetAvailable: func(t *testing.T, s store.Store, up bool) { s.(*client).tree.net.set(up) },
				TTL:          time.Second,
				NoElections:  true,
				OwnHistory:   true,
				NoHistory:    name == "Through", // what nobody watched has none
			})
		})
	}
}
