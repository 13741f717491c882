//go:build interop

package zookeeper_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/storetest"
	"github.com/zonecast/zonecast/store/zookeeper"
	"github.com/zonecast/zonecast/store/zookeeper/zktest"
)

// shared is the server of all tests that do not disturb it.
var shared struct {
	once   sync.Once
	server *zktest.Server
	err    error
	dir    string
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.server != nil {
		shared.server.Kill() // who waits for it is a goroutine, too
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "after all stores were closed:", err)
		code = 1
	}
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// address is where the shared server listens.
func address(t testing.TB) string {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "zonecast-zk-"); shared.err == nil {
			shared.server, shared.err = zktest.Start(shared.dir, "-Dznode.container.checkIntervalMs=500")
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server.Address
}

// proxy stands between one client and the server and can be cut.
type proxy struct {
	address, target string

	mu    sync.Mutex // guards below
	ln    net.Listener
	conns map[net.Conn]bool
	came  []time.Time // when each connection since the last connect was there
	wg    sync.WaitGroup
}

func newProxy(t testing.TB, target string) *proxy {
	p := &proxy{address: "127.0.0.1:0", target: target}
	p.connect(t)
	t.Cleanup(func() { p.cut(); p.wg.Wait() })
	return p
}

func (p *proxy) connect(t testing.TB) {
	ln, err := net.Listen("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.ln, p.conns, p.address, p.came = ln, make(map[net.Conn]bool), ln.Addr().String(), nil
	p.mu.Unlock()
	p.wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", p.target)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			if p.ln != ln {
				in.Close()
				out.Close()
			} else {
				p.conns[in], p.conns[out] = true, true
				p.came = append(p.came, time.Now())
			}
			p.mu.Unlock()
			p.wg.Go(func() { io.Copy(in, out); in.Close() })
			p.wg.Go(func() { io.Copy(out, in); out.Close() })
		}
	})
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln == nil {
		return
	}
	p.ln.Close()
	p.ln = nil
	for c := range p.conns {
		c.Close()
	}
}

// client is a store with what is needed to disturb it.
type client struct {
	*zookeeper.Store
	proxy *proxy
	tree  *sharedTree
}

// sharedTree is one root and the clients that see it.
type sharedTree struct {
	root, target string

	mu  sync.Mutex // guards below
	all []*client
}

var trees atomic.Int32

func newTree(t testing.TB) *sharedTree {
	return &sharedTree{root: fmt.Sprintf("/test/tree%d", trees.Add(1)), target: address(t)}
}

func (tr *sharedTree) open(t testing.TB) *client {
	p := newProxy(t, tr.target)
	s, err := zookeeper.Open(t.Context(), zookeeper.Config{Servers: []string{p.address}, Root: tr.root})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{Store: s, proxy: p, tree: tr}
	tr.mu.Lock()
	tr.all = append(tr.all, c)
	tr.mu.Unlock()
	return c
}

func (tr *sharedTree) setAvailable(t testing.TB, up bool) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, c := range tr.all {
		if c.proxy.cut(); up {
			c.proxy.connect(t)
		}
	}
}

func TestInteropContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return newTree(t).open(t) }, storetest.Options{
		Peer: func(t *testing.T, s store.Store) store.Store { return s.(*client).tree.open(t) },
		Die:  func(t *testing.T, s store.Store) { s.(*client).proxy.cut() },
		Compact: func(t *testing.T, s store.Store) {
			admin, err := zookeeper.Open(t.Context(), zookeeper.Config{Servers: []string{address(t)}, Root: s.(*client).tree.root})
			if err != nil {
				t.Fatal(err)
			}
			defer admin.Close()
			if err := admin.Forget(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		SetAvailable: func(t *testing.T, s store.Store, up bool) { s.(*client).tree.setAvailable(t, up) },
		TTL:          4 * zktest.Tick,
	})
}
