package etcd_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/etcd"
	"github.com/zonecast/zonecast/store/storetest"
)

// proxy stands between one client and the server and can be cut.
type proxy struct {
	path, target string

	mu    sync.Mutex // guards below
	ln    net.Listener
	conns map[net.Conn]bool
	wg    sync.WaitGroup
}

func newProxy(t *testing.T, target string) *proxy {
	p := &proxy{path: filepath.Join(shortDir(t), "p"), target: target}
	p.connect(t)
	t.Cleanup(func() { p.cut(); p.wg.Wait() })
	return p
}

func (p *proxy) connect(t *testing.T) {
	ln, err := net.Listen("unix", p.path)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.ln, p.conns = ln, make(map[net.Conn]bool)
	p.mu.Unlock()
	p.wg.Go(func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", p.target)
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

// shortDir is a directory whose path leaves room for a socket's name.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "zc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// client is a store with what is needed to disturb it.
type client struct {
	*etcd.Store
	proxy *proxy
	tree  *sharedTree
}

// sharedTree is one prefix and the clients that see it.
type sharedTree struct {
	prefix string
	mu     sync.Mutex // guards below
	all    []*client
}

func (tr *sharedTree) open(t *testing.T, socket string) *client {
	p := newProxy(t, socket)
	s, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{"unix://" + p.path}, Prefix: tr.prefix})
	if err != nil {
		t.Fatal(err)
	}
	c := &client{Store: s, proxy: p, tree: tr}
	tr.mu.Lock()
	tr.all = append(tr.all, c)
	tr.mu.Unlock()
	return c
}

func TestContract(t *testing.T) {
	dir := shortDir(t)
	child := startChild(t, dir)
	socket := filepath.Join(dir, "socket")
	admin, err := clientv3.New(clientv3.Config{Endpoints: []string{child.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer t.Cleanup(func() { admin.Close() })
	var trees atomic.Int32
	storetest.Run(t, func(t *testing.T) store.Store {
		tr := &sharedTree{prefix: fmt.Sprintf("/tree%d", trees.Add(1))}
		return tr.open(t, socket)
	}, storetest.Options{
		Peer: func(t *testing.T, s store.Store) store.Store { return s.(*client).tree.open(t, socket) },
		Die:  func(t *testing.T, s store.Store) { s.(*client).proxy.cut() },
		Compact: func(t *testing.T, s store.Store) {
			// A change outside the tree, so that the history goes on past all of it.
			put, err := admin.Put(t.Context(), "/outside", "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := admin.Compact(t.Context(), put.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
				t.Fatal(err)
			}
		},
		SetAvailable: func(t *testing.T, s store.Store, up bool) {
			tr := s.(*client).tree
			tr.mu.Lock()
			defer tr.mu.Unlock()
			for _, c := range tr.all {
				if c.proxy.cut(); up {
					c.proxy.connect(t)
				}
			}
		},
		TTL: 2 * time.Second, // etcd's least with its default election timeout
	})
}
